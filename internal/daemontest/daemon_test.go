package daemontest_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// TestDaemons is that each daemon takes an image and runs it.
func TestDaemons(t *testing.T) {
	busybox, err := os.ReadFile(need.Program(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	var root bytes.Buffer
	tw := tar.NewWriter(&root)
	if err := tw.WriteHeader(&tar.Header{Name: "busybox", Mode: 0o755, Size: int64(len(busybox))}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(busybox); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, root.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(testing.TB) daemontest.Daemon{"docker": daemontest.Docker, "podman": daemontest.Podman} {
		t.Run(name, func(t *testing.T) {
			d := start(t)
			d.Do(t, "import", file, "example.com/a/b:v1")
			if got := d.Do(t, "run", "--rm", "--network=none", "example.com/a/b:v1", "/busybox", "echo", "here"); strings.TrimSpace(got) != "here" {
				t.Errorf("the container printed %q", got)
			}
		})
	}
}
