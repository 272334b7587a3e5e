package extract_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// TestFoldersNamedAsMarks: what lies in a folder that is called as a whiteout hides
// nothing.
func TestFoldersNamedAsMarks(t *testing.T) {
	dir, warned, err := run(t, layers{
		{imagetest.File("a/x", "1"), imagetest.File("b", "2")},
		{imagetest.File("a/y", "3"), imagetest.File("a/.wh.x/f", ""), imagetest.File(".wh.a/.wh.b", ""), imagetest.File("a/.wh..wh..opq/f", "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), []string{"a/", "a/x=1", "a/y=3", "b=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"3 marks of a storage driver were left out"}; !slices.Equal(warned, want) {
		t.Errorf("got %q, want %q", warned, want)
	}
	// A link leads there too.
	if _, _, err := run(t, layers{{imagetest.File("x", "1"), imagetest.Symlink("l", ".wh.x"), imagetest.File("l/f", "")}}); err == nil || !strings.Contains(err.Error(), "whiteout's name") {
		t.Errorf("got %v", err)
	}
}

// TestWaysThatChange: where a name leads is looked up again once something on the
// way has become something else.
func TestWaysThatChange(t *testing.T) {
	tests := []struct {
		name string
		in   layers
		want []string
	}{
		{"directory to link", layers{{imagetest.File("a/f", "1"), imagetest.Dir("b"), imagetest.Symlink("a", "b"), imagetest.File("a/g", "2")}},
			[]string{"a -> b", "b/", "b/g=2"}},
		{"link to link", layers{{imagetest.Dir("b"), imagetest.Dir("c"), imagetest.Symlink("a", "b"), imagetest.File("a/f", "1"), imagetest.Symlink("a", "c"), imagetest.File("a/f", "2")}},
			[]string{"a -> c", "b/", "b/f=1", "c/", "c/f=2"}},
		{"link above", layers{{imagetest.Symlink("x", "y"), imagetest.File("x/d/f", "1"), imagetest.Symlink("x", "z"), imagetest.File("x/d/f", "2")}},
			[]string{"x -> z", "y/", "y/d/", "y/d/f=1", "z/", "z/d/", "z/d/f=2"}},
		{"link to directory", layers{{imagetest.Dir("b"), imagetest.Symlink("a", "b"), imagetest.File("a/f", "1"), imagetest.Dir("a"), imagetest.File("a/f", "2")}},
			[]string{"a/", "a/f=2", "b/", "b/f=1"}},
		{"removed", layers{{imagetest.File("b/low", ""), imagetest.Symlink("a", "b")}, {imagetest.File("a/f", "1"), whiteout(".wh.a"), imagetest.File("a/g", "2")}},
			[]string{"a/", "a/g=2", "b/", "b/f=1", "b/low="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir() + "/r"
			if err := os.Mkdir(base, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, l := range tt.in {
				if _, err := extract.Layer(t.Context(), base, bytes.NewReader(imagetest.Tar(l...)), extract.Options{}); err != nil {
					t.Fatal(err)
				}
			}
			if got := tree(t, base); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAttributesThatCannotBe: they are told, and no reason to fail.
func TestAttributesThatCannotBe(t *testing.T) {
	need.Root(t)
	records := map[string]string{
		"SCHILY.xattr.bogus.space":                      "x",
		"SCHILY.xattr.security.capability":              "x", // not as the kernel wants it
		"SCHILY.xattr.user." + strings.Repeat("x", 300): "x",
		"SCHILY.xattr.user.large":                       strings.Repeat("x", 70_000),
		"SCHILY.xattr.user.page":                        strings.Repeat("x", 9_000), // more than ext4 has room for
		"SCHILY.xattr.user.fine":                        "x",
	}
	dir, warned, err := run(t, layers{{{Header: tar.Header{Name: "f", Format: tar.FormatPAX, PAXRecords: records}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := 4
	if _, err := unix.Lgetxattr(dir+"/f", "user.page", nil); err != nil {
		want = 5
	}
	if len(warned) != 1 || !strings.HasPrefix(warned[0], fmt.Sprintf("%d extended attributes", want)) {
		t.Errorf("got %q", warned)
	}
	if n, err := unix.Lgetxattr(dir+"/f", "user.fine", nil); n != 1 || err != nil {
		t.Errorf("user.fine: %d, %v", n, err)
	}
}

// TestManyOpaqueMarks: however often a layer hides all that is below, each thing is
// looked at once.
func TestManyOpaqueMarks(t *testing.T) {
	need.Root(t)
	lower, upper := t.TempDir(), t.TempDir()
	var low, marks []imagetest.Entry
	for i := range 2000 {
		low = append(low, imagetest.File(fmt.Sprintf("%d", i), ""))
		marks = append(marks, whiteout(".wh..wh..opq"))
	}
	start := used(t)
	for _, l := range []struct {
		dir string
		in  []imagetest.Entry
		opt extract.Options
	}{{lower, low, extract.Options{Overlay: true}}, {upper, marks, extract.Options{Overlay: true, Lower: []string{lower}}}} {
		if _, err := extract.Layer(t.Context(), l.dir, bytes.NewReader(imagetest.Tar(l.in...)), l.opt); err != nil {
			t.Fatal(err)
		}
	}
	if d := used(t) - start; d > 4*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestDeepNames: the way to what lies deep is looked up once.
func TestDeepNames(t *testing.T) {
	deep := strings.Repeat("a/", 400)
	var in []imagetest.Entry
	for i := range 500 {
		in = append(in, imagetest.File(fmt.Sprintf("%s%d", deep, i), ""))
	}
	start := used(t)
	if _, err := extract.Layer(t.Context(), t.TempDir(), bytes.NewReader(imagetest.Tar(in...)), extract.Options{}); err != nil {
		t.Fatal(err)
	}
	if d := used(t) - start; d > 4*time.Second {
		t.Errorf("it took %s", d)
	}
}

// used gives the processor time that the tests have had.
func used(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
