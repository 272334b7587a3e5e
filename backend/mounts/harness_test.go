package mounts_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/mounts"
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// An image is one with plain layers.
type image struct {
	layers   []imagetest.Layer // lowest first
	config   imagetest.Layer
	manifest []byte
	desc     oci.Descriptor
}

func newImage(t *testing.T, cfg ocispec.ImageConfig, layers ...[]imagetest.Entry) image {
	t.Helper()
	var img image
	c := ocispec.Image{Platform: imagetest.Linux, Config: cfg, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, entries := range layers {
		l := imagetest.Blob(ocispec.MediaTypeImageLayer, imagetest.Tar(entries...))
		img.layers = append(img.layers, l)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
		m.Layers = append(m.Layers, l.Desc)
	}
	img.config = imagetest.Blob(ocispec.MediaTypeImageConfig, marshal(t, c))
	m.Config = img.config.Desc
	img.manifest = marshal(t, m)
	img.desc = imagetest.Blob(m.MediaType, img.manifest).Desc
	return img
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Fetch makes an image a source for [filetree.List].
func (img image) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	for _, l := range img.layers {
		if l.Desc.Digest == d.Digest {
			return io.NopCloser(bytes.NewReader(l.Bytes)), nil
		}
	}
	return nil, oci.ErrNotFound
}

func (img image) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return img.desc, img.manifest, nil
}

func (img image) Head(context.Context, string) (oci.Descriptor, error) { return img.desc, nil }

func blob(d oci.Descriptor, raw []byte, layer int) oci.Blob {
	return oci.Blob{Desc: d, Layer: layer, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}
}

// uri names folder path, whatever is in its name.
func uri(path, options string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(parts[i]), ":", "%3A")
	}
	return "mounts://" + strings.Join(parts, "/") + options
}

func openTarget(t *testing.T, uri string, warn func(string)) (oci.Target, error) {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return mounts.Kind.Target(t.Context(), u, backend.Env{Warn: warn})
}

const name = "quay.io/a/b:v1"

func open(t *testing.T, uri string) (oci.Destination, error) {
	t.Helper()
	target, err := openTarget(t, uri, func(s string) { t.Errorf("warned: %s", s) })
	if err != nil {
		return nil, err
	}
	ref, err := oci.ParseRef(name, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := target.Image(t.Context(), ref)
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return d, err
}

// An order says in which order layers and config (-1) are put.
type order func(n int) []int

func upwards(n int) (order []int) {
	for i := -1; i < n; i++ {
		order = append(order, i)
	}
	return order
}

func downwards(n int) []int {
	order := upwards(n)
	slices.Reverse(order)
	return order
}

// put is what a copy does. It puts what isn't there and gives how many blobs that
// were.
func put(ctx context.Context, d oci.Destination, img image, o order) (n int, err error) {
	for _, i := range o(len(img.layers)) {
		what := img.config
		if i >= 0 {
			what = img.layers[i]
		}
		ok, err := d.Has(ctx, what.Desc)
		if err != nil {
			return n, err
		}
		if ok {
			continue
		}
		n++
		if got, err := d.PutBlob(ctx, blob(what.Desc, what.Bytes, i)); err != nil {
			return n, err
		} else if got.Digest != what.Desc.Digest || got.Size != what.Desc.Size {
			return n, fmt.Errorf("put %v, got %v", what.Desc, got)
		}
	}
	return n, commit(ctx, d, img)
}

// putAtOnce puts all at once.
func putAtOnce(ctx context.Context, d oci.Destination, img image) error {
	var wg sync.WaitGroup
	errs := make([]error, len(img.layers)+1)
	for i, l := range append(img.layers[:len(img.layers):len(img.layers)], img.config) {
		at := i
		if i == len(img.layers) {
			at = oci.NoLayer
		}
		wg.Go(func() {
			if ok, err := d.Has(ctx, l.Desc); ok || err != nil {
				errs[i] = err
				return
			}
			_, errs[i] = d.PutBlob(ctx, blob(l.Desc, l.Bytes, at))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return commit(ctx, d, img)
}

func commit(ctx context.Context, d oci.Destination, img image) error {
	if _, err := d.PutManifest(ctx, img.manifest, img.desc.MediaType); err != nil {
		return err
	}
	if err := d.Commit(ctx, img.desc, img.desc); err != nil {
		return err
	}
	return errors.Join(d.Verify(ctx, img.desc, false), d.Verify(ctx, img.desc, true))
}

// unmount unmounts what is mounted in path, now and at the end of the test.
func unmountAtEnd(t *testing.T, path string) {
	t.Helper()
	t.Cleanup(func() {
		for unix.Unmount(filepath.Join(path, "rootfs"), 0) == nil {
		}
	})
}

// tree lists what is in dir, without its times.
func tree(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		f := filetree.File{Mode: int64(st.Mode & 0o7777), UID: int(st.Uid), GID: int(st.Gid)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			raw, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			f.Type, f.Size, f.Sum = "file", fi.Size(), sha256.Sum256(raw)
		case unix.S_IFDIR:
			f.Type = "directory"
		case unix.S_IFLNK:
			f.Type = "symlink"
			if f.Link, err = os.Readlink(p); err != nil {
				return err
			}
		case unix.S_IFIFO:
			f.Type = "fifo"
		case unix.S_IFCHR:
			f.Type, f.Link = "character device", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		rel, err := filepath.Rel(dir, p)
		lines = append(lines, line(rel, f))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func line(path string, f filetree.File) string {
	if f.Type == "symlink" {
		f.Mode = 0
	}
	s := fmt.Sprintf("%s %s %o %d:%d %s", path, f.Type, f.Mode, f.UID, f.GID, f.Link)
	if f.Type == "file" {
		s += fmt.Sprintf("%d %s", f.Size, hex.EncodeToString(f.Sum[:4]))
	}
	return s
}

// merged lists what img's layers come to.
func merged(t *testing.T, img image) (lines []string) {
	t.Helper()
	var all []*filetree.Listing
	for _, l := range img.layers {
		listing, err := filetree.List(t.Context(), img, l.Desc, layer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, listing)
	}
	whole, err := filetree.Merge(all, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, f := range whole.All() {
		if path != "" {
			lines = append(lines, line(path, f))
		}
	}
	slices.Sort(lines)
	return lines
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
