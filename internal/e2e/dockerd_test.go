package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/daemontest"
)

// prints gives what the only image of an OCI layout prints: skopeo turns it
// into an archive, which d loads and runs.
func prints(t *testing.T, d daemontest.Daemon, layout string) string {
	t.Helper()
	const name = "example.com/under/test:v1"
	archive := filepath.Join(t.TempDir(), "image.tar")
	skopeo(t, "copy", "--quiet", "oci:"+layout, "docker-archive:"+archive+":"+name)
	if got := d.Do(t, "load", "--input", archive); !strings.Contains(got, name) {
		t.Errorf("docker load says %q", got)
	}
	out := d.Do(t, "run", "--rm", "--network=none", name)
	d.Do(t, "image", "rm", name)
	return out
}
