package extract_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

// layers are tars, lowest first.
type layers [][]imagetest.Entry

func whiteout(name string) imagetest.Entry { return imagetest.File(name, "") }

// run extracts ls into one folder, one after another, and gives it.
func run(t *testing.T, ls layers) (string, []string, error) {
	t.Helper()
	return runIn(t, filepath.Join(t.TempDir(), "rootfs"), ls)
}

func runIn(t *testing.T, dir string, ls layers) (string, []string, error) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var warned []string
	var sums extract.Sums
	for _, l := range ls {
		st, err := extract.Layer(t.Context(), dir, bytes.NewReader(imagetest.Tar(l...)), extract.Options{Sums: &sums})
		warned = append(warned, st.Warnings.Lines()...)
		if err != nil {
			return dir, warned, err
		}
	}
	got, err := sums.Check(t.Context(), dir, true)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	if want := tree(t, dir); got.Entries != int64(len(want)) {
		t.Errorf("counted %d entries, want %d", got.Entries, len(want))
	}
	return dir, warned, nil
}

// tree lists what is in dir, sorted: name, type and content.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case d.IsDir():
			list = append(list, rel+"/")
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			list = append(list, rel+" -> "+to)
			return err
		case d.Type().IsRegular():
			body, err := os.ReadFile(name)
			list = append(list, rel+"="+string(body))
			return err
		default:
			list = append(list, rel+" "+d.Type().String()[:1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestLayers(t *testing.T) {
	tests := []struct {
		name string
		in   layers
		want []string
	}{
		{"one file", layers{{imagetest.File("a", "1")}}, []string{"a=1"}},
		{"leading dots and slashes", layers{{imagetest.Dir("./"), imagetest.File("./a", "1"), imagetest.File("/b", "2"), imagetest.File("./c/../d", "3")}}, []string{"a=1", "b=2", "d=3"}},
		{"a later layer wins", layers{{imagetest.File("a", "1")}, {imagetest.File("a", "22")}}, []string{"a=22"}},
		{"a later entry wins", layers{{imagetest.File("a", "1"), imagetest.File("a", "22")}}, []string{"a=22"}},
		{"a parent without entry", layers{{imagetest.File("a/b/c", "1")}}, []string{"a/", "a/b/", "a/b/c=1"}},
		{"deleted file", layers{{imagetest.File("a/x", "1"), imagetest.File("a/y", "2")}, {whiteout("a/.wh.x")}}, []string{"a/", "a/y=2"}},
		{"deleted directory", layers{{imagetest.File("a/b/x", "1"), imagetest.File("a/bc/y", "2")}, {whiteout("a/.wh.b")}}, []string{"a/", "a/bc/", "a/bc/y=2"}},
		{"whiteout of what isn't there", layers{{imagetest.File("a/x", "1")}, {whiteout(".wh.b"), whiteout("a/b/.wh.c"), whiteout("a/x/.wh.c"), whiteout("n/.wh..wh..opq")}}, []string{"a/", "a/x=1"}},
		{"whiteout in the lowest layer", layers{{whiteout(".wh.b"), imagetest.File("a", "1")}}, []string{"a=1"}},
		{"opaque", layers{{imagetest.File("a/x", "1"), imagetest.File("a/d/y", "2"), imagetest.File("ab/z", "3")}, {imagetest.Dir("a"), whiteout("a/.wh..wh..opq"), imagetest.File("a/n", "4")}}, []string{"a/", "a/n=4", "ab/", "ab/z=3"}},
		{"opaque behind what it keeps", layers{{imagetest.File("a/x", "1"), imagetest.File("a/d/y", "2")}, {imagetest.Dir("a"), imagetest.File("a/n", "4"), imagetest.File("a/d/m", "5"), whiteout("a/.wh..wh..opq")}}, []string{"a/", "a/d/", "a/d/m=5", "a/n=4"}},
		{"opaque twice", layers{{imagetest.File("a/x", "1")}, {whiteout("a/.wh..wh..opq"), imagetest.File("a/n", "4"), whiteout("a/.wh..wh..opq")}, {whiteout("a/.wh..wh..opq")}}, []string{"a/"}},
		{"opaque root", layers{{imagetest.File("a/x", "1"), imagetest.File(".d", "")}, {whiteout(".wh..wh..opq"), imagetest.File("n", "4")}}, []string{"n=4"}},
		{"opaque root, written otherwise", layers{{imagetest.File("a/x", "1"), imagetest.File(".d", "")}, {whiteout("./.wh..wh..opq"), imagetest.File("n", "4")}}, []string{"n=4"}},
		{"nested opaque, deepest first", layers{{imagetest.File("a/b/c/x", "1"), imagetest.File("a/b/y", "2"), imagetest.File("a/z", "3")},
			{imagetest.File("a/b/c/n", "4"), whiteout("a/b/c/.wh..wh..opq"), whiteout("a/b/.wh..wh..opq"), whiteout("a/.wh..wh..opq")}}, []string{"a/", "a/b/", "a/b/c/", "a/b/c/n=4"}},
		{"deleted and made again", layers{{imagetest.File("a/x", "1")}, {whiteout(".wh.a"), imagetest.Dir("a"), imagetest.File("a/n", "2")}}, []string{"a/", "a/n=2"}},
		{"made again and deleted", layers{{imagetest.File("a/x", "1")}, {imagetest.Dir("a"), imagetest.File("a/n", "2"), whiteout(".wh.a")}}, []string{"a/", "a/n=2"}},
		{"file and its whiteout in one layer", layers{{imagetest.File("a", "1")}, {imagetest.File("a", "2"), whiteout(".wh.a")}}, []string{"a=2"}},
		{"directory, file, directory", layers{{imagetest.File("a/x", "1")}, {imagetest.File("a", "2")}, {imagetest.Dir("a"), imagetest.File("a/y", "3")}}, []string{"a/", "a/y=3"}},
		{"directory, link, directory", layers{{imagetest.File("a/x", "1"), imagetest.Dir("b")}, {imagetest.Symlink("a", "b")}, {imagetest.File("a/y", "3")}, {imagetest.Dir("a"), imagetest.File("a/z", "4")}}, []string{"a/", "a/z=4", "b/", "b/y=3"}},
		{"a file where a directory is needed", layers{{imagetest.File("a", "1")}, {imagetest.File("a/b/c", "2")}}, []string{"a/", "a/b/", "a/b/c=2"}},
		{"usr merge", layers{{imagetest.Dir("usr/lib"), imagetest.Symlink("lib", "usr/lib")}, {imagetest.File("lib/x", "1")}}, []string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/x=1"}},
		{"absolute link within", layers{{imagetest.Dir("usr/lib"), imagetest.Symlink("lib", "/usr/lib")}, {imagetest.File("lib/x", "1")}, {whiteout("lib/.wh.x"), imagetest.File("lib/y", "2")}}, []string{"lib -> /usr/lib", "usr/", "usr/lib/", "usr/lib/y=2"}},
		{"dangling link", layers{{imagetest.Symlink("a", "/nowhere/x")}, {imagetest.File("a", "1")}}, []string{"a=1"}},
		{"through a dangling link", layers{{imagetest.Symlink("a", "/nowhere/x")}, {imagetest.File("a/f", "1")}}, []string{"a -> /nowhere/x", "nowhere/", "nowhere/x/", "nowhere/x/f=1"}},
		{"hard link", layers{{imagetest.File("a", "1"), imagetest.Hardlink("d/b", "a")}}, []string{"a=1", "d/", "d/b=1"}},
		{"hard link to a lower layer", layers{{imagetest.File("a", "1")}, {imagetest.Hardlink("b", "/a")}, {whiteout(".wh.a")}}, []string{"b=1"}},
		{"hard link to a link", layers{{imagetest.Symlink("a", "x"), imagetest.Hardlink("b", "a")}}, []string{"a -> x", "b -> x"}},
		{"one of two hard links replaced", layers{{imagetest.File("a", "1"), imagetest.Hardlink("b", "a")}, {imagetest.File("a", "2")}}, []string{"a=2", "b=1"}},
		{"odd names", layers{{imagetest.File("..foo", "1"), imagetest.File("a..", "2"), imagetest.File("ü/\xff\xfe", "3"), imagetest.File("a b\n", "4"), imagetest.File("...", "5")}}, []string{"...=5", "..foo=1", "a b\n=4", "a..=2", "ü/", "ü/\xff\xfe=3"}},
		{"long name", layers{{imagetest.File(strings.Repeat("a234567890/", 14)+"x", "1")}}, nil},
		{"fifo", layers{{imagetest.Entry{Header: tar.Header{Name: "f", Typeflag: tar.TypeFifo}}}}, []string{"f p"}},
		{"bookkeeping", layers{{imagetest.File("x", "1"), imagetest.Dir(".wh..wh.plnk"), whiteout(".wh..wh.aufs"), imagetest.File(".wh..wh.orph/a", "2"), whiteout(".wh."), whiteout(".wh..wh.")}}, nil},
		{"empty layer", layers{{imagetest.File("a", "1")}, {}}, []string{"a=1"}},
		{"global header", layers{{imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}}, imagetest.File("a", "1")}}, []string{"a=1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _, err := run(t, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestHostile has a file and a folder beside the root that no layer may touch.
func TestHostile(t *testing.T) {
	tests := []struct {
		name string
		in   func(outside string) layers
		kind error // nil: it is taken as below the root
		warn string
		want []string // where it matters
	}{
		{"dots", func(string) layers {
			return layers{{imagetest.File("../canary", "x"), imagetest.File("a/../../canary", "y")}}
		}, nil, "led out of the root", []string{"canary=y"}},
		{"absolute", func(o string) layers { return layers{{imagetest.File(o+"/canary", "x")}} }, nil, "", nil},
		{"link out, then through it", func(o string) layers { return layers{{imagetest.Symlink("l", o), imagetest.File("l/canary", "x")}} }, nil, "", nil},
		{"relative link out, then through it", func(string) layers { return layers{{imagetest.Symlink("l", "../"), imagetest.File("l/canary", "x")}} }, nil, "", []string{"canary=x", "l -> ../"}},
		{"link in one layer, through it in another", func(o string) layers {
			return layers{{imagetest.Dir("l"), imagetest.File("l/f", "1")}, {imagetest.Symlink("l", o)}, {imagetest.File("l/canary", "x")}}
		}, nil, "", nil},
		{"link to the file, then the file", func(o string) layers { return layers{{imagetest.Symlink("l", o+"/canary"), imagetest.File("l", "x")}} }, nil, "", []string{"l=x"}},
		{"link to a link", func(o string) layers {
			return layers{{imagetest.Symlink("a", "b/.."), imagetest.Symlink("b", o), imagetest.File("a/"+filepath.Base(o)+"/canary", "x")}}
		}, nil, "", nil},
		{"the root is a link", func(o string) layers { return layers{{imagetest.Symlink(".", o)}, {imagetest.File("canary", "x")}} }, oci.ErrInvalid, "", nil},
		{"the root, written otherwise, is a link", func(o string) layers { return layers{{imagetest.Symlink("a/..", o)}} }, oci.ErrInvalid, "", nil},
		{"the root is a file", func(string) layers { return layers{{imagetest.File("a/../.", "x")}} }, oci.ErrInvalid, "", nil},
		{"hard link to an absolute file, then rewritten", func(o string) layers { return layers{{imagetest.Hardlink("h", o+"/canary"), imagetest.File("h", "x")}} }, fs.ErrNotExist, "", nil},
		{"hard link up and out", func(string) layers { return layers{{imagetest.Hardlink("h", "../canary")}} }, fs.ErrNotExist, "", nil},
		{"hard link through a link out", func(o string) layers { return layers{{imagetest.Symlink("l", o), imagetest.Hardlink("h", "l/canary")}} }, fs.ErrNotExist, "", nil},
		{"hard link to a link out, then written", func(o string) layers {
			return layers{{imagetest.Symlink("l", o+"/canary"), imagetest.Hardlink("h", "l"), imagetest.File("h", "x")}}
		}, nil, "", []string{"h=x", "l -> OUT/canary"}},
		{"mode through a link", func(o string) layers {
			return layers{{imagetest.Symlink("l", o+"/canary"), imagetest.Hardlink("h", "l")}, {imagetest.Entry{Header: tar.Header{Name: "h", Typeflag: tar.TypeSymlink, Linkname: o + "/canary", Mode: 0o777, Uid: 1}}}}
		}, nil, "", nil},
		{"whiteout through a link", func(o string) layers {
			return layers{{imagetest.Symlink("l", o)}, {whiteout("l/.wh.canary"), whiteout("l/.wh..wh..opq")}}
		}, nil, "", nil},
		{"whiteout of parents", func(string) layers {
			return layers{{imagetest.File("a/x", "1")}, {whiteout("a/.wh..."), whiteout("a/.wh.."), whiteout("a/.wh."), whiteout(".wh..."), whiteout(".wh..")}}
		}, nil, "marks", []string{"a/", "a/x=1"}},
		{"whiteout up and out", func(string) layers { return layers{{whiteout("../.wh.canary"), whiteout("../.wh..wh..opq")}} }, nil, "led out", nil},
		{"PAX path", func(string) layers {
			return layers{{imagetest.Entry{Header: tar.Header{Name: "../" + strings.Repeat("x/", 60) + "../../canary", PAXRecords: map[string]string{"comment": "x"}}, Body: "x"}}}
		}, nil, "", nil},
		{"links in a circle", func(string) layers {
			return layers{{imagetest.Symlink("a", "b"), imagetest.Symlink("b", "a"), imagetest.File("a/x", "1")}}
		}, oci.ErrInvalid, "", nil},
		{"unknown type", func(string) layers { return layers{{imagetest.Entry{Header: tar.Header{Name: "a", Typeflag: 'Z'}}}} }, oci.ErrInvalid, "", nil},
		{"hard link to a directory", func(string) layers { return layers{{imagetest.Dir("d"), imagetest.Hardlink("h", "d")}} }, fs.ErrPermission, "", nil},
		{"hard link to the root", func(string) layers { return layers{{imagetest.Hardlink("h", "/")}} }, fs.ErrPermission, "", nil},
		{"too deep", func(string) layers { return layers{{imagetest.File(strings.Repeat("a/", 600)+"x", "1")}} }, oci.ErrTooLarge, "", nil},
		{"owner that no system has", func(string) layers { return layers{{imagetest.Entry{Header: tar.Header{Name: "a", Uid: 1<<32 - 1}}}} }, oci.ErrInvalid, "", nil},
		{"times that no system has", func(string) layers {
			return layers{{imagetest.Entry{Header: tar.Header{Name: "a", ModTime: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Format: tar.FormatPAX}}, imagetest.Entry{Header: tar.Header{Name: "b", ModTime: time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC), Format: tar.FormatPAX}}}}
		}, nil, "", []string{"a=", "b="}},
		{"case", func(o string) layers {
			return layers{{imagetest.Symlink("A", o), imagetest.Dir("a"), imagetest.File("a/canary", "x"), imagetest.File("A/canary", "y")}}
		}, nil, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			outside := filepath.Join(base, "outside")
			err := errors.Join(os.Mkdir(outside, 0o700), os.WriteFile(outside+"/canary", nil, 0o600), os.WriteFile(base+"/canary", nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			before := state(t, base)
			dir, warned, err := runIn(t, filepath.Join(base, "rootfs"), tt.in(outside))
			if !errors.Is(err, tt.kind) || tt.kind == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
			if all := strings.Join(warned, "\n"); !strings.Contains(all, tt.warn) {
				t.Errorf("got warnings %q, want one with %q", all, tt.warn)
			}
			if after := state(t, base); before != after {
				t.Errorf("outside: got %s, want %s", after, before)
			}
			if tt.want != nil {
				got := tree(t, dir)
				for i := range got {
					got[i] = strings.ReplaceAll(got[i], outside, "OUT")
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			}
		})
	}
}

// state tells all about the canaries.
func state(t *testing.T, base string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{base + "/outside", base + "/outside/canary", base + "/canary"} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Fatal(err)
		}
		body, _ := os.ReadFile(name) // of a folder there is none
		fmt.Fprintf(&b, "%s %o %d %d %d %d.%d %q; ", filepath.Base(name), st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec, body)
	}
	return b.String()
}

func TestMetadata(t *testing.T) {
	need.Root(t)
	old, newer := time.Unix(1500000000, 0), time.Unix(1600000000, 5000)
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir, warned, err := run(t, layers{
		{
			imagetest.Entry{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, ModTime: old}},
			imagetest.Entry{Header: tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5, Gid: 6, ModTime: old}},
			imagetest.Entry{Header: tar.Header{Name: "tmp/gone", ModTime: newer}},
			imagetest.Entry{Header: tar.Header{Name: "tmp/d/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: old}},
			imagetest.Entry{Header: tar.Header{Name: "tmp/d/gone", ModTime: newer}},
			imagetest.Entry{Header: tar.Header{Name: "su", Mode: 0o6755, Uid: 1000, Gid: 2000, ModTime: newer, Format: tar.FormatPAX,
				PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.k": "v\x00w", "SCHILY.xattr.security.selinux": "x"}}, Body: "x"},
			imagetest.Hardlink("hard", "su"),
			imagetest.Entry{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "su", Uid: 7, ModTime: newer, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}}},
			imagetest.Entry{Header: tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}},
		},
		{whiteout("tmp/.wh.gone"), whiteout("tmp/d/.wh..wh..opq"), imagetest.File("implied/x", "1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		mode     uint32
		uid, gid uint32
		links    uint64
		mtime    time.Time
	}{
		{".", unix.S_IFDIR | 0o711, 0, 0, 0, old},
		{"tmp", unix.S_IFDIR | 0o1777, 5, 6, 0, old},
		{"tmp/d", unix.S_IFDIR | 0o700, 0, 0, 0, old},
		{"su", unix.S_IFREG | 0o6755, 1000, 2000, 2, newer},
		{"hard", unix.S_IFREG | 0o6755, 1000, 2000, 2, newer},
		{"link", unix.S_IFLNK | 0o777, 7, 0, 1, newer},
		{"implied", unix.S_IFDIR | 0o755, 0, 0, 0, time.Unix(0, 0)},
		{"dev", unix.S_IFCHR | 0o666, 0, 0, 1, time.Unix(1700000000, 0)},
	}
	for _, tt := range tests {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, tt.name), &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()).UTC())
		want := fmt.Sprintf("%o %d:%d %s", tt.mode, tt.uid, tt.gid, tt.mtime.UTC())
		if got != want || tt.links != 0 && st.Nlink != tt.links {
			t.Errorf("%s: got %s, %d links, want %s, %d links", tt.name, got, st.Nlink, want, tt.links)
		}
	}
	for name, want := range map[string]string{"security.capability": capability, "user.k": "v\x00w"} {
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(dir, "su"), name, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s: got %q, %v, want %q", name, buf[:max(n, 0)], err, want)
		}
	}
	if got := strings.Join(warned, "\n"); !strings.Contains(got, "1 extended attributes were left out: they are the host's") || !strings.Contains(got, "1 extended attributes were left out: this user") {
		t.Errorf("got warnings %q", got)
	}
}
