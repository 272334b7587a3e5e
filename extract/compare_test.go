package extract_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// nasty has what root file systems can have.
func nasty() layers {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	h := func(h tar.Header, body string) imagetest.Entry { return imagetest.Entry{Header: h, Body: body} }
	long := strings.Repeat("directory-of-a-long-path/", 6) + "file"
	return layers{
		{
			h(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at(1e9)}, ""),
			h(tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 1, Gid: 2, ModTime: at(1e9 + 1)}, ""),
			h(tar.Header{Name: "a/b/", Typeflag: tar.TypeDir, ModTime: at(1e9 + 2)}, ""), imagetest.File("a/b/x", "1"), imagetest.File("a/b/y", "2"),
			h(tar.Header{Name: "a/bc/", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: at(1e9 + 3)}, ""), imagetest.File("a/bc/z", "3"),
			h(tar.Header{Name: "o/", Typeflag: tar.TypeDir, ModTime: at(1e9 + 4)}, ""), imagetest.File("o/low", "4"), imagetest.Dir("o/sub"), imagetest.File("o/sub/low", "5"),
			h(tar.Header{Name: "su", Mode: 0o4755, Uid: 10, ModTime: at(1e9 + 5), PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.k": "v\n"}}, "su"),
			h(tar.Header{Name: "sg", Mode: 0o2755, Gid: 10}, "sg"), imagetest.Hardlink("hard", "su"), imagetest.Hardlink("a/hard", "hard"),
			imagetest.Dir("t"), imagetest.File("t/inner", "6"), imagetest.Symlink("dangling", "/no/where"), imagetest.Symlink("abs", "/a/b"), imagetest.Symlink("rel", "a/b"),
			h(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""),
			h(tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}, ""),
			h(tar.Header{Name: "loop", Typeflag: tar.TypeBlock, Devmajor: 7, Mode: 0o660, Gid: 6}, ""),
		},
		{
			imagetest.File("a/b/.wh.x", ""), imagetest.File("o/new", "7"), imagetest.File("o/.wh..wh..opq", ""), imagetest.File("a/.wh.never", ""),
			imagetest.File("t", "a file now"), h(tar.Header{Name: "zwölf/日本/", Typeflag: tar.TypeDir}, ""), imagetest.File("zwölf/日本/語", "8"), imagetest.File("raw\xff", "9"),
			h(tar.Header{Name: strings.TrimSuffix(long, "/file") + "/", Typeflag: tar.TypeDir}, ""), imagetest.File(long, "long"),
		},
		{
			imagetest.Dir("t"), imagetest.File("t/other", "10"), imagetest.File(".wh.a", ""), imagetest.Dir("a"), imagetest.File("a/fresh", "11"), imagetest.File("su", "no longer"), imagetest.File(".wh.dangling", ""),
			h(tar.Header{Name: "sg", Typeflag: tar.TypeSymlink, Linkname: "su", Uid: 3, ModTime: at(1e9 + 6)}, ""),
		},
		{h(tar.Header{Name: "o/sub/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: at(1e9 + 7)}, ""), imagetest.File("o/sub/top", "12"), imagetest.File("rel2", "13"), imagetest.Hardlink("rel3", "rel2")},
	}
}

// exact lists all of dir with what stat says, without the times of folders: umoci
// gives those without an entry the time of the moment.
func exact(t testing.TB, dir string) []string {
	t.Helper()
	inodes := map[uint64]string{}
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if !d.IsDir() {
			line += fmt.Sprintf(" @%d", st.Mtim.Sec)
		}
		switch d.Type() {
		case 0:
			body, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", body)
		case fs.ModeSymlink:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += " -> " + to
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if !d.IsDir() {
			if first, ok := inodes[st.Ino]; ok {
				line += " = " + first
			} else {
				inodes[st.Ino] = rel
			}
		}
		buf := make([]byte, 1000)
		if n, err := unix.Llistxattr(name, buf); err == nil {
			attrs := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
			slices.Sort(attrs)
			for _, a := range attrs {
				if n, err := unix.Lgetxattr(name, a, buf); err == nil {
					line += fmt.Sprintf(" %s=%q", a, buf[:n])
				}
			}
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// layoutOf writes ls as an image named v1 into an OCI layout.
func layoutOf(t *testing.T, ls layers) string {
	t.Helper()
	dir := t.TempDir()
	var blobs []imagetest.Layer
	for _, l := range ls {
		blobs = append(blobs, imagetest.Gzip(imagetest.Tar(l...)))
	}
	img := imagetest.New(imagetest.Linux, nil, blobs...)
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "blobs/sha256/" + img.Desc.Digest.Encoded(): img.Raw}
	for d, b := range img.Blobs {
		files["blobs/sha256/"+d.Encoded()] = b
	}
	desc := img.Desc
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "v1"}
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
	idx.SchemaVersion = 2
	raw, err := json.Marshal(idx)
	if err != nil {
		t.Fatal(err)
	}
	files["index.json"] = raw
	if err := os.MkdirAll(dir+"/blobs/sha256", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAsUmoci: umoci's command, of another version, comes to the same.
func TestAsUmoci(t *testing.T) {
	need.Root(t)
	umoci := need.Program(t, "umoci")
	cases := []layers{nasty()}
	for seed := range uint64(4) {
		cases = append(cases, random(seed, true))
	}
	for i, ls := range cases {
		dir, _, err := run(t, ls)
		if err != nil {
			t.Fatal(err)
		}
		bundle := filepath.Join(t.TempDir(), "bundle")
		out, err := exec.CommandContext(t.Context(), umoci, "unpack", "--image", layoutOf(t, ls)+":v1", bundle).CombinedOutput()
		if err != nil {
			t.Fatalf("umoci: %v: %s", err, out)
		}
		if got, want := exact(t, dir), exact(t, bundle+"/rootfs"); !slices.Equal(got, want) {
			t.Errorf("case %d:\ngot  %s\n\nwant %s", i, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// TestAsOverlay: the kernel merges layers that were extracted one by one to what
// comes of extracting one over the other.
func TestAsOverlay(t *testing.T) {
	need.Root(t)
	for seed := range uint64(20) {
		ls := random(seed, false)
		dir, _, err := run(t, ls)
		if err != nil {
			t.Fatal(err)
		}
		base := t.TempDir()
		lower := []string{}
		for i, l := range ls {
			at := fmt.Sprintf("%s/%d", base, i)
			if err := extract.MakeRoot(at); err != nil {
				t.Fatal(err)
			}
			if _, err := extract.Layer(t.Context(), at, bytes.NewReader(imagetest.Tar(l...)), extract.Options{Overlay: true, Lower: lower}); err != nil {
				t.Fatal(err)
			}
			lower = append([]string{at}, lower...)
		}
		mounted := base + "/mounted"
		if err := os.Mkdir(mounted, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("overlay", mounted, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
			t.Fatal(err)
		}
		got := tree(t, mounted)
		if err := unix.Unmount(mounted, 0); err != nil {
			t.Fatal(err)
		}
		if want := tree(t, dir); !slices.Equal(got, want) {
			t.Errorf("seed %d: layers %v\ngot  %q\nwant %q", seed, describe(ls), got, want)
		}
	}
}

func describe(ls layers) (all [][]string) {
	for _, l := range ls {
		var names []string
		for _, e := range l {
			names = append(names, fmt.Sprintf("%s%c%s", e.Name, e.Typeflag, e.Linkname))
		}
		all = append(all, names)
	}
	return all
}

// random makes layers of few names, so that they meet. links: with links, but
// without files where there were directories.
func random(seed uint64, links bool) layers {
	rng := rand.New(rand.NewPCG(seed, 7))
	name := func() string {
		parts := []string{}
		for range 1 + rng.IntN(3) {
			parts = append(parts, string(rune('a'+rng.IntN(3))))
		}
		if links && rng.IntN(2) == 0 { // that umoci makes no directory of files
			parts = append(parts, string(rune('f'+rng.IntN(3))))
		}
		return strings.Join(parts, "/")
	}
	var ls layers
	for range 3 + rng.IntN(3) {
		var l []imagetest.Entry
		for n := range 1 + rng.IntN(7) {
			p := name()
			dir, base := filepath.Split(p)
			if isFile := base >= "f"; links && isFile && n%2 == 0 {
				l = append(l, imagetest.File(p, fmt.Sprint(seed, len(ls), n)), imagetest.Hardlink("h"+base, p), imagetest.Symlink("l"+base, "/a"))
				continue
			} else if links {
				l = append(l, []imagetest.Entry{imagetest.Dir(strings.TrimSuffix(p, "/"+base) + "/a"), imagetest.File(dir+".wh."+base, ""), imagetest.File(dir+".wh..wh..opq", "")}[rng.IntN(3)])
				continue
			}
			switch rng.IntN(8) {
			case 0, 1:
				l = append(l, imagetest.File(p, fmt.Sprint(seed, len(ls), n)))
			case 2, 3:
				l = append(l, imagetest.Dir(p))
			case 4, 5:
				l = append(l, imagetest.File(dir+".wh."+base, ""))
			case 6:
				l = append(l, imagetest.File(p+"/.wh..wh..opq", ""))
			case 7:
				l = append(l, imagetest.File(p+"/f", ""))
			}
		}
		ls = append(ls, l)
	}
	return ls
}
