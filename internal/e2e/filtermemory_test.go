package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

// reads counts the reads of blobs of a registry.
type reads struct {
	mu sync.Mutex
	of map[oci.Digest]int
}

func (r *reads) wrap(next http.Handler) http.Handler {
	r.of = map[oci.Digest]int{}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/sha256:") {
			r.mu.Lock()
			r.of[oci.Digest(path.Base(req.URL.Path))]++
			r.mu.Unlock()
		}
		next.ServeHTTP(w, req)
	})
}

// counts gives the reads so far.
func (r *reads) counts() map[oci.Digest]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.of)
}

// readReport reads what --report wrote.
func readReport(t testing.TB, file string) oci.Report {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r oci.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// mostWritten is what a run that keeps nothing may write into one file, in
// bytes: enough for a report.
const mostWritten = 64 << 10

// withoutFiles runs the program where no file can grow over mostWritten, of
// whatever name, nor of none. Where it is started, its home and its folder for
// temporary files is one folder, which must stay empty.
func withoutFiles(t *testing.T, args ...string) result {
	t.Helper()
	empty := t.TempDir()
	r := measured(t, append([]string{"env", "--chdir=" + empty, "HOME=" + empty, "TMPDIR=" + empty,
		need.Program(t, "prlimit"), "--fsize=65536", tool(t)}, args...)...)
	if left := readDir(t, empty); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	return r
}

// TestWithoutFiles: a run that writes a file is noticed.
func TestWithoutFiles(t *testing.T) {
	from := startRegistry(t, nil)
	if err := image(1, 2*mostWritten, "amd64").Push(t.Context(), from.URL, "app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	if r := withoutFiles(t, "process", "--plain-http", "registry://"+from.host+"/app:v1", "ocidir://"+filepath.Join(t.TempDir(), "out")); r.status == 0 {
		t.Error("it could write a layer")
	}
}

// TestFiltersOfABigImage: three filters that change each of ten layers cost one
// pass over each, little memory, and no file.
func TestFiltersOfABigImage(t *testing.T) {
	const layers = 10
	var source, dest reads
	from, to := startRegistry(t, source.wrap), startRegistry(t, dest.wrap)
	img := pushLayers(t, from.host, "big", layers, bigFiles{random: 42, text: 40})
	file := filepath.Join(t.TempDir(), "report.json")
	r := withoutFiles(t, "process", "--plain-http", "registry://"+from.host+"/big:v1", "registry://"+to.host+"/big:v1", "--report", file,
		"-f", "normalize-timestamps:ts=1600000000", "-f", "exclude:pattern=**/0007.conf", "-f", "chown:uid=12,gid=34")
	if r.status != 0 {
		t.Fatalf("status %d\n%s", r.status, r.stderr)
	}
	small(t, r, mostPasses)

	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	fetched := source.counts()
	for _, l := range m.Layers {
		size += l.Size
		if n := fetched[l.Digest]; n != 1 {
			t.Errorf("layer %s was read %d times", l.Digest, n)
		}
	}
	t.Logf("%d MiB of layers", size>>20)
	if size < 570e6 || size > 700e6 {
		t.Errorf("the image has %d bytes of layers", size)
	}
	if read := dest.counts(); len(read) > 0 {
		t.Errorf("the destination was read: %v", read)
	}
	got := readReport(t, file).Transfers
	for kind, want := range map[string]int64{"blobs_fetched": layers + 1, "layers_filtered": layers, "layers_unchanged": 0,
		"layers_unchanged_refetched": 0, "passes_restarted": 0, "blobs_put": layers + 1} {
		if got[kind] != want {
			t.Errorf("%s: %d, want %d", kind, got[kind], want)
		}
	}
	must(t, "check", "--plain-http", "registry://"+to.host+"/big:v1") // every byte of it
}
