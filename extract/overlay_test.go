package extract_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// TestOverlay mounts what was extracted and looks at it through the kernel's eyes.
func TestOverlay(t *testing.T) {
	need.Root(t)
	lower := []imagetest.Entry{imagetest.Dir("a"), imagetest.File("a/x", "1"), imagetest.File("a/d/y", "2"), imagetest.Dir("ab"), imagetest.File("ab/z", "3"),
		{Header: tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3}}, imagetest.File("tmp/f", "")}
	tests := []struct {
		name string
		in   layers
		want []string // of a and ab
	}{
		{"deleted file", layers{lower, {whiteout("a/.wh.x")}}, []string{"a/", "a/d/", "a/d/y=2", "ab/", "ab/z=3"}},
		{"deleted directory", layers{lower, {whiteout(".wh.a")}}, []string{"ab/", "ab/z=3"}},
		{"whiteout of what isn't there", layers{lower, {whiteout("a/.wh.no"), whiteout("ab/no/.wh.no"), whiteout("ab/z/.wh.no")}}, []string{"a/", "a/d/", "a/d/y=2", "a/x=1", "ab/", "ab/z=3"}},
		{"whiteout of what is deleted already", layers{lower, {whiteout(".wh.a")}, {whiteout("a/d/.wh.y"), whiteout("a/.wh.x")}}, []string{"ab/", "ab/z=3"}},
		{"whiteout below what is opaque", layers{lower, {whiteout("a/.wh..wh..opq"), imagetest.File("a/n", "4")}, {whiteout("a/.wh.x"), whiteout("a/.wh.n")}}, []string{"a/", "ab/", "ab/z=3"}},
		{"opaque", layers{lower, {imagetest.Dir("a"), whiteout("a/.wh..wh..opq"), imagetest.File("a/n", "4")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"opaque behind what it keeps", layers{lower, {imagetest.File("a/n", "4"), whiteout("a/.wh..wh..opq")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"whiteouts in opaque directories", layers{lower, {whiteout("a/.wh.x"), whiteout("a/d/.wh.y"), whiteout("a/.wh..wh..opq"), whiteout("a/.wh.later")}}, []string{"a/", "ab/", "ab/z=3"}},
		{"deleted and made again", layers{lower, {whiteout(".wh.a"), imagetest.Dir("a"), imagetest.File("a/n", "4")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"deleted and made again without entry", layers{lower, {whiteout(".wh.a"), imagetest.File("a/n", "4")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"made again and deleted", layers{lower, {imagetest.Dir("a"), imagetest.File("a/n", "4"), whiteout(".wh.a")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"file and its whiteout", layers{lower, {whiteout("a/.wh.x"), imagetest.File("a/x", "4"), whiteout("a/.wh.x"), whiteout("a/.wh..wh..opq")}}, []string{"a/", "a/x=4", "ab/", "ab/z=3"}},
		{"directory file directory", layers{lower, {imagetest.File("a", "4")}, {whiteout(".wh.a"), imagetest.File("a/n", "5")}}, []string{"a/", "a/n=5", "ab/", "ab/z=3"}},
		{"opaque root", layers{lower, {imagetest.File("a/n", "4"), whiteout(".wh..wh..opq"), imagetest.Dir("ab")}}, []string{"a/", "a/n=4", "ab/"}},
		{"hard link to a file below", layers{lower, {imagetest.Hardlink("ab/h", "a/x")}}, []string{"a/", "a/d/", "a/d/y=2", "a/x=1", "ab/", "ab/h=1", "ab/z=3"}},
		{"a device that means a whiteout", layers{lower, {imagetest.Entry{Header: tar.Header{Name: "a/x", Typeflag: tar.TypeChar}}}}, []string{"a/", "a/d/", "a/d/y=2", "a/x=", "ab/", "ab/z=3"}},
		{"an attribute that means opaque", layers{lower, {imagetest.Entry{Header: tar.Header{Name: "a/", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}}}}, []string{"a/", "a/d/", "a/d/y=2", "a/x=1", "ab/", "ab/z=3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			dirs := []string{} // the nearest first
			for i, l := range tt.in {
				dir := fmt.Sprintf("%s/%d", base, i)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if _, err := extract.Layer(t.Context(), dir, bytes.NewReader(imagetest.Tar(l...)), extract.Options{Overlay: true, Lower: dirs}); err != nil {
					t.Fatal(err)
				}
				dirs = append([]string{dir}, dirs...)
			}
			root := filepath.Join(base, "mounted")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("overlay", root, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(root, 0); err != nil {
					t.Error(err)
				}
			})
			got := slices.DeleteFunc(tree(t, root), func(s string) bool { return strings.HasPrefix(s, "tmp/") })
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestOverlayParents: a directory that a layer has no entry for must not hide how
// the one below looks.
func TestOverlayParents(t *testing.T) {
	need.Root(t)
	lower, upper := t.TempDir(), t.TempDir()
	for _, l := range []struct {
		dir   string
		in    []imagetest.Entry
		lower []string
	}{
		{lower, []imagetest.Entry{{Header: tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3, Gid: 4}}}, nil},
		{upper, []imagetest.Entry{imagetest.File("tmp/a/f", "")}, []string{lower}},
	} {
		if _, err := extract.Layer(t.Context(), l.dir, bytes.NewReader(imagetest.Tar(l.in...)), extract.Options{Overlay: true, Lower: l.lower}); err != nil {
			t.Fatal(err)
		}
	}
	var a, b unix.Stat_t
	if err := unix.Lstat(lower+"/tmp", &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(upper+"/tmp", &b); err != nil {
		t.Fatal(err)
	}
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
		t.Errorf("got %o %d:%d %v, want %o %d:%d %v", b.Mode, b.Uid, b.Gid, b.Mtim, a.Mode, a.Uid, a.Gid, a.Mtim)
	}
}

// TestAttributesThatMeanNothing: a layer's own attributes of overlayfs are shown,
// and not acted on.
func TestAttributesThatMeanNothing(t *testing.T) {
	need.Root(t)
	names := map[string]string{"opaque": "y", "redirect": "/etc", "metacopy": "", "origin": "x", "overlay.opaque": "y"}
	records := map[string]string{}
	for n, v := range names {
		records["SCHILY.xattr.trusted.overlay."+n] = v + "!"
	}
	lower, upper, root := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, in := range map[string][]imagetest.Entry{
		lower: {imagetest.File("d/below", "1"), imagetest.File("f", "1")},
		upper: {{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir, PAXRecords: records}}, imagetest.File("d/beside", "2"),
			{Header: tar.Header{Name: "f", PAXRecords: records}, Body: "2"}},
	} {
		if _, err := extract.Layer(t.Context(), dir, bytes.NewReader(imagetest.Tar(in...)), extract.Options{Overlay: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d", "f"} {
		for n := range names {
			if got, err := unix.Lgetxattr(upper+"/"+name, "trusted.overlay."+n, nil); err == nil && n != "overlay.opaque" {
				t.Errorf("%s has trusted.overlay.%s on the disk (%d bytes)", name, n, got)
			}
		}
	}
	if err := unix.Mount("overlay", root, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	if got, want := tree(t, root), []string{"d/", "d/below=1", "d/beside=2", "f=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLinksToLowerFiles: whatever the type is, and without a copy of the bytes.
func TestLinksToLowerFiles(t *testing.T) {
	need.Root(t)
	lower, upper := t.TempDir(), t.TempDir()
	var sums extract.Sums
	for _, l := range []struct {
		dir string
		in  []imagetest.Entry
		opt extract.Options
	}{
		{lower, []imagetest.Entry{imagetest.File("d/f", "1"), imagetest.Symlink("d/s", "/nowhere"), {Header: tar.Header{Name: "d/p", Typeflag: tar.TypeFifo}}}, extract.Options{Overlay: true}},
		{upper, []imagetest.Entry{imagetest.Hardlink("f", "d/f"), imagetest.Hardlink("s", "d/s"), imagetest.Hardlink("p", "d/p"), imagetest.File("d/f", "2")},
			extract.Options{Overlay: true, Lower: []string{lower}, Sums: &sums}},
	} {
		if _, err := extract.Layer(t.Context(), l.dir, bytes.NewReader(imagetest.Tar(l.in...)), l.opt); err != nil {
			t.Fatal(err)
		}
	}
	var a, b unix.Stat_t
	if err := unix.Lstat(lower+"/d/f", &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(upper+"/f", &b); err != nil || a.Ino != b.Ino {
		t.Errorf("got inode %d, %v, want %d", b.Ino, err, a.Ino)
	}
	if raw, err := os.ReadFile(lower + "/d/f"); err != nil || string(raw) != "1" {
		t.Errorf("the layer below has %q, %v", raw, err)
	}
	if got, err := sums.Check(t.Context(), upper, true); err != nil || got.Entries != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}
