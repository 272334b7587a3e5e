package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// smallDisk gives a folder on a disk of size KiB, of which left are free.
func smallDisk(t *testing.T, size, left int) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dk", size), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", dir).Run(); err != nil {
			t.Error("umount:", err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, (size-left)<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fullLine is what each failure of a full disk has to say.
func fullLine(t *testing.T, line, path string) {
	t.Helper()
	if !strings.Contains(line, path) || strings.Count(line, "no space left on device") != 1 || strings.Contains(line, hidden) {
		t.Errorf("want a line that names %s and what it lacks, got %q", path, line)
	}
}

func TestFullDisk(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	q.fill(t, 6, 30_000)
	small := q.names()
	for name, img := range maps.Clone(q.images) {
		q.push(t, "mixed"+strings.TrimPrefix(name, "org"), img)
	}
	q.push(t, "mixed/app-03-is-big:v1", image(1, 5<<20, "amd64"))
	one, big := "registry://"+q.host+"/org/app-00:v1", "registry://"+q.host+"/mixed/app-03-is-big:v1"
	mixed := "quay://mixed/*:v1?host=" + q.host
	tests := []struct {
		name   string
		source string
		left   int  // KiB
		more   bool // it is no single image
		fits   bool // on the disk, were it empty
	}{
		{"a layer that doesn't fit", big, 4 << 10, false, false},
		{"no room for a first file", one, 0, false, true},
		{"room for little more than a config", one, 16, false, true},
		{"of many, one that doesn't fit", mixed, 4 << 10, true, false},
		{"of many, all but a few", q.source(), 200, true, true},
		{"of many, none", q.source(), 0, true, true},
	}
	for _, k := range keepers {
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				disk := smallDisk(t, 4<<10, tt.left)
				folder := filepath.Join(disk, "out")
				r := fullDisk(t, k, tt.source, folder)
				if r.status != 1 {
					t.Errorf("status %d, %q, want 1", r.status, r.stderr)
				}
				if n := strings.Count(r.stderr, "\n"); !tt.more && n != 1 {
					t.Errorf("%d lines for one image: %q", n, r.stderr)
				}
				if !tt.fits {
					return
				}
				if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
					t.Fatal(err)
				}
				processed(t, tt.source, k.scheme+folder)
				want := small
				if !tt.more {
					name := strings.TrimPrefix(tt.source, "registry://")
					want = map[string]oci.Digest{name: small[name]}
				}
				k.complete(t, folder, want)
			})
		}
	}
}

// fullDisk copies source into folder, whose disk may become full, and looks
// whether what was said and what is there are true.
func fullDisk(t *testing.T, k keeper, source, folder string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report")
	r := process(t, source, k.scheme+folder, "--report", file, "--quiet")
	lines := failures(r.stderr)
	for _, line := range lines {
		fullLine(t, line, folder)
	}
	there, rep := k.walk(t, folder), report(t, file)
	for _, w := range there.wrong {
		t.Error(w)
	}
	if len(there.temp) > 0 {
		t.Errorf("left behind: %q", there.temp)
	}
	copied(t, rep, there)
	if n := rep.Listing.Found; n > len(rep.Images) && !strings.Contains(r.stderr, notBegun) {
		t.Errorf("the report has %d of %d images, and this was told: %q", len(rep.Images), n, r.stderr)
	}
	if rep.Totals.Failed != len(lines) || (r.status == 0) != (len(lines) == 0) {
		t.Errorf("status %d, the report knows of %d failures, and %q were told", r.status, rep.Totals.Failed, lines)
	}
	return r
}

// TestDiskFullAtAnyMoment fills the disk at each kind of file that is written.
func TestDiskFullAtAnyMoment(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	for i := range 3 {
		q.push(t, fmt.Sprintf("org/app-%d:v1", i), imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 3000), imagetest.Random(uint64(10+i), 3000)))
	}
	for _, k := range keepers {
		t.Run(k.name, func(t *testing.T) {
			for left := 0; ; left += 4 {
				folder := filepath.Join(smallDisk(t, 256, left), "out")
				if r := fullDisk(t, k, q.source(), folder); r.status == 0 {
					k.complete(t, folder, q.names())
					t.Logf("%d KiB are enough", left)
					return
				}
			}
		})
	}
}

// notBegun is in the line that says that the report lacks images.
const notBegun = "images that come later were not begun"

// failures are the lines that tell of an image's.
func failures(stderr string) []string {
	var lines []string
	for line := range strings.Lines(stderr) {
		told := strings.HasPrefix(line, "Failed: ") || strings.HasPrefix(line, "Error: ")
		if told && !strings.Contains(line, notBegun) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestReportOnAFullDisk(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	q.fill(t, 3, 10_000)
	disk, folder := smallDisk(t, 1<<10, 0), filepath.Join(t.TempDir(), "out")
	file := filepath.Join(disk, "report.json")
	r := process(t, q.source(), "ocidir://"+folder, "--report", file, "--quiet")
	if r.status != 1 || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("status %d, %q, want one line", r.status, r.stderr)
	}
	fullLine(t, r.stderr, file)
	if left := readDir(t, disk); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
	keepers[0].complete(t, folder, q.names())
}
