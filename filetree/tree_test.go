package filetree_test

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
)

func listing(t testing.TB, entries ...imagetest.Entry) *filetree.Listing {
	t.Helper()
	l := imagetest.Entries(entries...)
	got, err := filetree.List(t.Context(), blobs{l.Desc.Digest: l.Bytes}, l.Desc, layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got.DiffID != l.DiffID {
		t.Errorf("diffID %s, want %s", got.DiffID, l.DiffID)
	}
	return got
}

// show gives "PATH TYPE" for all of tree, with the size of files.
func show(tree *filetree.Tree) (got []string) {
	for path, f := range tree.All() {
		s := path + " " + f.Type
		if f.Type == "file" {
			s += fmt.Sprint(" ", f.Size)
		}
		got = append(got, s)
	}
	return got
}

func TestMerge(t *testing.T) {
	file, dir := imagetest.File, imagetest.Dir
	base := []imagetest.Entry{dir("./a/"), file("./a/x", "1"), dir("a/d"), file("a/d/z", "1"), file("ab", "1"), imagetest.Hardlink("link", "ab")}
	tests := []struct {
		what string
		top  []imagetest.Entry
		want []string
	}{
		{"nothing", nil, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 1", "ab file 1", "link file 1"}},
		{"replaced", []imagetest.Entry{file("a/x", "22"), file("ab", "333")}, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 2", "ab file 3", "link file 1"}},
		{"whiteout", []imagetest.Entry{file(".wh.a", "")}, []string{"ab file 1", "link file 1"}},
		{"whiteout of what isn't there", []imagetest.Entry{file("q/.wh.a", ""), file(".wh.nosuch", "")}, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 1", "ab file 1", "link file 1"}},
		{"opaque, its own come first", []imagetest.Entry{file("a/new", ""), file("a/.wh..wh..opq", "")}, []string{"a directory", "a/new file 0", "ab file 1", "link file 1"}},
		{"opaque root", []imagetest.Entry{file(".wh..wh..opq", ""), file("n", "")}, []string{"n file 0"}},
		{"directory replaced", []imagetest.Entry{imagetest.Symlink("a", "b")}, []string{"a symlink", "ab file 1", "link file 1"}},
		{"file replaced by a directory", []imagetest.Entry{dir("ab"), file("ab/c", "")}, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 1", "ab directory", "ab/c file 0", "link file 1"}},
		{"link into the layer below", []imagetest.Entry{file("a/.wh.x", ""), imagetest.Hardlink("l", "./a/d/z"), imagetest.Hardlink("m", "nosuch")}, []string{"a directory", "a/d directory", "a/d/z file 1", "ab file 1", "l file 1", "link file 1", "m hardlink"}},
		{"twice", []imagetest.Entry{file("c", "1"), file("c", "22")}, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 1", "ab file 1", "c file 2", "link file 1"}},
		{"outside of the root", []imagetest.Entry{file("../../etc/x", "1"), file("/a/x", "22")}, []string{"a directory", "a/d directory", "a/d/z file 1", "a/x file 2", "ab file 1", "etc/x file 1", "link file 1"}},
	}
	for _, tt := range tests {
		layers := []*filetree.Listing{listing(t, base...), listing(t, tt.top...)}
		tree, err := filetree.Merge(layers, 0, nil)
		if got := show(tree); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v, want %q", tt.what, got, err, tt.want)
		}
		// What is touched comes out the same if nothing else of the base is kept.
		touched := filetree.TouchOf(layers[1:])
		touched.AddLinks(layers[:1])
		part, err := filetree.Merge(layers, 1, touched)
		if err != nil {
			t.Fatal(err)
		}
		for path, pair := range filetree.Union(tree, part) {
			if pair[1] != nil && (pair[0] == nil || *pair[0] != *pair[1]) {
				t.Errorf("%s: at %s there is %+v of the whole, %+v of the part", tt.what, path, pair[0], pair[1])
			}
		}
	}
}

func TestListing(t *testing.T) {
	capable := imagetest.Entry{Header: tar.Header{Name: "ping", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}, Mode: 0o4755, Uid: 5, Gid: 6}, Body: "text"}
	device := imagetest.Entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}
	tree, err := filetree.Merge([]*filetree.Listing{listing(t, capable, device)}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]filetree.File{}
	for path, f := range tree.All() {
		got[path] = f
	}
	ping := got["ping"]
	if ping.Xattrs == 0 || ping.SHA256() != fmt.Sprintf("%x", sha256.Sum256([]byte("text"))) || ping.Mode != 0o4755 || ping.UID != 5 || ping.GID != 6 {
		t.Errorf("got %+v", ping)
	}
	if f := got["null"]; f.Link != "1:3" || f.Type != "character device" || f.SHA256() != "" {
		t.Errorf("got %+v", f)
	}
}

// Many marks in a large tree take no time: none is compared with each path.
func TestManyWhiteouts(t *testing.T) {
	var base, top []imagetest.Entry
	for i := range 15_000 {
		base = append(base, imagetest.File(fmt.Sprintf("d%d/f", i), ""))
		top = append(top, imagetest.File(fmt.Sprintf("d%d/.wh.f", i), ""))
	}
	tree, err := filetree.Merge([]*filetree.Listing{listing(t, base...), listing(t, top...)}, 0, nil)
	if got := show(tree); err != nil || len(got) != 0 {
		t.Errorf("%d are left, %v", len(got), err)
	}
}

// entriesOf reads a line for each entry: PATH, PATH/ or >PATH TARGET.
func entriesOf(text string) (entries []imagetest.Entry) {
	for line := range strings.Lines(text) {
		name := strings.TrimSpace(line)
		if name == "" || len(name) > 1000 || strings.ContainsRune(name, 0) {
			continue
		}
		target, isLink := strings.CutPrefix(name, ">")
		switch {
		case isLink:
			if link, to, _ := strings.Cut(target, " "); link != "" && to != "" {
				entries = append(entries, imagetest.Hardlink(strings.TrimRight(link, "/")+"l", to))
			}
		case strings.HasSuffix(name, "/"):
			entries = append(entries, imagetest.Dir(name))
		default:
			entries = append(entries, imagetest.File(name, fmt.Sprint(len(entries)%2)))
		}
	}
	return entries
}

// differences are the paths at which the trees of base and a, and of base and b,
// differ; with little, by as little of base as does.
func differences(t *testing.T, base, a, b *filetree.Listing, little bool) (got []string) {
	t.Helper()
	var touched filetree.Touch
	lower := []*filetree.Listing{base}
	if little {
		touched = filetree.TouchOf([]*filetree.Listing{a})
		other := filetree.TouchOf([]*filetree.Listing{b})
		if touched.Equal(other) {
			lower = nil
		}
		touched.Add(other)
		touched.AddLinks(lower)
	}
	var trees [2]*filetree.Tree
	for i, top := range []*filetree.Listing{a, b} {
		var err error
		if trees[i], err = filetree.Merge(append(slices.Clone(lower), top), len(lower), touched); err != nil {
			t.Fatal(err)
		}
	}
	for path, pair := range filetree.Union(trees[0], trees[1]) {
		if path != filetree.Clean(path) || path == ".." || strings.HasPrefix(path, "../") {
			t.Errorf("%q is no clean path", path)
		}
		if pair[0] == nil || pair[1] == nil || *pair[0] != *pair[1] {
			got = append(got, path)
		}
	}
	return got
}

// What is left out of the base makes no difference to how trees on it differ.
func FuzzMerge(f *testing.F) {
	f.Add("a/\na/x\nab\n>l ab", "a/.wh.x\n.wh..wh..opq\n../b", "a")
	f.Add("a\na/b\n.wh.", ">x a/b\n.wh..wh.plnk\n/", "a/\n>a/b a")
	f.Add("a/b\n>l a/b\n>m ll", "ll", "ml\n.wh.ll")
	f.Fuzz(func(t *testing.T, base, a, b string) {
		x, y, z := listing(t, entriesOf(base)...), listing(t, entriesOf(a)...), listing(t, entriesOf(b)...)
		whole, little := differences(t, x, y, z, false), differences(t, x, y, z, true)
		if !slices.Equal(whole, little) {
			t.Errorf("%q, or by what is touched %q", whole, little)
		}
	})
}
