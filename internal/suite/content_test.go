package suite_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// sample is an image of what layers can hold. seed makes it another one.
func sample(seed uint64) imagetest.Image {
	with := func(e imagetest.Entry, change func(*tar.Header)) imagetest.Entry {
		change(&e.Header)
		return e
	}
	base := imagetest.Entries(
		imagetest.Dir("etc"), imagetest.File("etc/motd", "hello"), imagetest.File("etc/gone", "deleted above"),
		imagetest.Dir("var"), imagetest.File("var/hidden", "an opaque directory above"),
		imagetest.Hardlink("etc/again", "etc/motd"), imagetest.Symlink("etc/link", "../etc/motd"),
		with(imagetest.File("su", "x"), func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o4755, 12, 34 }),
		imagetest.Dir("données"), imagetest.File("données/日本語", "no ASCII"),
		with(imagetest.File("noted", "x"), func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.comment": "kept"} }),
	)
	top := imagetest.Entries(imagetest.Dir("etc"), imagetest.File("etc/.wh.gone", ""), imagetest.Dir("var"), imagetest.File("var/.wh..wh..opq", ""), imagetest.File("var/new", "x"))
	return imagetest.New(imagetest.Linux, map[string]string{"seed": fmt.Sprint(seed)}, base, imagetest.Random(seed, 20_000), top)
}

// A content is what a name stands for: one image, or those of an index.
type content struct {
	manifest oci.Digest // "" where none is kept
	images   []imageContent
}

type imageContent struct {
	config  oci.Digest
	diffIDs []oci.Digest
	files   map[string]filetree.File
}

func (c content) equal(d content) bool {
	return c.manifest == d.manifest && slices.EqualFunc(c.images, d.images, func(a, b imageContent) bool {
		return a.config == b.config && slices.Equal(a.diffIDs, b.diffIDs) && len(diffTrees(a.files, b.files)) == 0
	})
}

func (c content) String() string {
	s := "manifest " + string(c.manifest)
	for _, i := range c.images {
		s += fmt.Sprintf(", config %s layers %s and %d files", i.config, i.diffIDs, len(i.files))
	}
	return s
}

// diffTrees tells the paths where a and b differ.
func diffTrees(a, b map[string]filetree.File) (diff []string) {
	for path, f := range a {
		if g, ok := b[path]; !ok || f != g {
			diff = append(diff, fmt.Sprintf("%q: %+v and %+v", path, f, g))
		}
	}
	for path, g := range b {
		if _, ok := a[path]; !ok {
			diff = append(diff, fmt.Sprintf("%q: nothing and %+v", path, g))
		}
	}
	slices.Sort(diff)
	return diff
}

// read reads all of item.
func read(ctx context.Context, src oci.Source, item oci.Item, platforms []oci.Platform) (content, error) {
	ref := item.Ref.Tag
	if item.Ref.Digest != "" {
		ref = string(item.Ref.Digest)
	}
	d, raw, err := src.Resolve(ctx, ref)
	if err != nil {
		return content{}, err
	}
	if digest.FromBytes(raw) != d.Digest {
		return content{}, errors.New("Resolve gave other bytes than it says")
	}
	c := content{manifest: d.Digest}
	if d.Annotations[oci.AnnotationSynthetic] != "" {
		c.manifest = ""
	}
	images, err := pipeline.Images(ctx, src, item, platforms)
	if err != nil {
		return content{}, err
	}
	for _, img := range images {
		rc, err := src.Fetch(ctx, img.Config)
		if err != nil {
			return content{}, err
		}
		raw, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return content{}, err
		}
		i := imageContent{config: digest.FromBytes(raw)}
		var lists []*filetree.Listing
		for _, l := range img.Layers {
			list, err := filetree.List(ctx, src, l, layer.Options{})
			if err != nil {
				return content{}, err
			}
			i.diffIDs = append(i.diffIDs, list.DiffID)
			lists = append(lists, list)
		}
		tree, err := filetree.Merge(lists, 0, nil)
		if err != nil {
			return content{}, err
		}
		i.files = map[string]filetree.File{}
		for path, f := range tree.All() {
			i.files[path] = f
		}
		c.images = append(c.images, i)
	}
	return c, nil
}

// readURI reads the only image of uri.
func readURI(ctx context.Context, t *testing.T, uri string, e backend.Env) (c content, err error) {
	t.Helper()
	u, k := parsed(t, uri, "source")
	images, err := k.Source(ctx, u, e)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, images.Close()) }()
	n := 0
	for item, err := range images.Discover(ctx) {
		if err != nil {
			return c, err
		}
		src, err := images.Source(ctx, item)
		if err != nil {
			return c, err
		}
		if c, err = read(ctx, src, item, nil); err != nil {
			return c, err
		}
		n++
	}
	if n != 1 {
		return c, fmt.Errorf("%s lists %d images", uri, n)
	}
	return c, nil
}

// filesBelow reads a root file system from the disk, as plain as an image's is
// told: names of one file are files each.
func filesBelow(t *testing.T, root string) map[string]filetree.File {
	t.Helper()
	files := map[string]filetree.File{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		f := filetree.File{Mode: int64(st.Mode & 0o7777), UID: int(st.Uid), GID: int(st.Gid)}
		switch info.Mode().Type() {
		case 0:
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f.Type, f.Size, f.Sum = "file", info.Size(), digestSum(raw)
		case fs.ModeDir:
			f.Type = "directory"
		case fs.ModeSymlink:
			f.Type, f.Mode = "symlink", 0
			f.Link, err = os.Readlink(path)
		}
		rel, _ := filepath.Rel(root, path) // it is below
		files[rel] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// plain tells files as filesBelow does.
func plain(files map[string]filetree.File) map[string]filetree.File {
	out := map[string]filetree.File{}
	for path, f := range files {
		if f.Type == "hardlink" {
			f = files[f.Link]
		}
		if f.Type == "symlink" {
			f.Mode = 0
		}
		f.Xattrs = 0 // known by a hash of their own
		out[path] = f
		for dir := range filetree.Parents(path) {
			if _, ok := files[dir]; !ok && dir != "" { // no layer says what it is like
				out[dir] = filetree.File{Type: "directory", Mode: 0o755}
			}
		}
	}
	return out
}
