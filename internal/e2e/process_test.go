package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
)

// asked notes the requests of a registry under /v2/.
type asked struct {
	mu       sync.Mutex
	requests []string
}

func (a *asked) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			a.mu.Lock()
			a.requests = append(a.requests, r.Method+" "+r.URL.Path)
			a.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// take gives the requests since the last take.
func (a *asked) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.requests
	a.requests = nil
	return got
}

func seen(t *testing.T, host, image string, see func(name.Reference) error) {
	t.Helper()
	ref, err := name.ParseReference(host+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := see(ref); err != nil {
		t.Errorf("go-containerregistry, of %s: %v", image, err)
	}
}

func TestProcessFromRegistryToRegistry(t *testing.T) {
	var source, dest asked
	from, to := startRegistry(t, source.wrap), startRegistry(t, dest.wrap)
	img := imagetest.Index(image(1, 2<<20, "amd64"), image(2, 1000, "arm64"))
	if err := img.Push(t.Context(), from.URL, "team/app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	args := []string{"process", "--plain-http", "registry://" + from.host + "/team/app:v1", "registry://" + to.host + "/mirror/app:v1"}
	must(t, args...)
	seen(t, to.host, "mirror/app:v1", seeIndex)

	source.take()
	dest.take()
	must(t, args...)
	if got, want := source.take(), []string{"HEAD /v2/team/app/manifests/v1"}; !slices.Equal(got, want) {
		t.Errorf("the second run asks the source for %q, want %q", got, want)
	}
	if got, want := dest.take(), []string{"HEAD /v2/mirror/app/manifests/v1"}; !slices.Equal(got, want) {
		t.Errorf("the second run asks the destination for %q, want %q", got, want)
	}
}

// There and back through an air gap: every name and digest is what it was.
func TestProcessThroughALayout(t *testing.T) {
	from, to := startRegistry(t, nil), startRegistry(t, nil)
	want := map[string]imagetest.Image{}
	var list strings.Builder
	for i := range 4 {
		img := imagetest.Index(image(uint64(i), 20_000, "amd64"), image(100, 5000, "arm64"))
		repo := fmt.Sprintf("team/app%d", i)
		if err := img.Push(t.Context(), from.URL, repo, "v1", ""); err != nil {
			t.Fatal(err)
		}
		want[repo+":v1"] = img
		fmt.Fprintf(&list, "%s/%s:v1\n", from.host, repo)
	}
	file, layout := filepath.Join(t.TempDir(), "list"), filepath.Join(t.TempDir(), "layout")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "process", "--plain-http", "list://"+file, "ocidir://"+layout)
	must(t, "process", "--plain-http", "ocidir://"+layout, "registry://"+to.host)
	for image, img := range want {
		repo, tag, _ := strings.Cut(image, ":")
		dst := destination(t, env(t, transport.Options{}), to.host, repo, tag)
		if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != img.Desc.Digest {
			t.Errorf("%s came back as %s, %v, want %s", image, d.Digest, err, img.Desc.Digest)
		}
		seen(t, to.host, image, seeIndex)
	}
}

// The tool's memory must not be that of who starts it.
func TestMeasure(t *testing.T) {
	ballast := make([]byte, 300<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	r := must(t, "version")
	if r.peak < 1<<20 || r.peak > 32<<20 {
		t.Errorf("the tool needs %d MiB to tell its version", r.peak>>20)
	}
	if ballast[4096] != 1 || strings.TrimSpace(r.stdout) == "" {
		t.Errorf("it says %q", r.stdout)
	}
}

func TestExitStatusComesThrough(t *testing.T) {
	if r := run(t, "process", "no-such-scheme"); r.status != 2 || r.stderr == "" {
		t.Errorf("status %d, %q", r.status, r.stderr)
	}
}
