package diff

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
)

// files gives the paths at which the file systems of a and b differ. It returns
// the errors of layers that can't be read, joined: then nothing is known.
func (d *differ) files(ctx context.Context, a, b *variant) ([]File, error) {
	out := []File{}
	n := common(a, b)
	if n == len(a.Layers) && n == len(b.Layers) {
		return out, nil
	}
	above, err := d.lists(ctx, n, a, b)
	if err != nil {
		return nil, err
	}
	touched := filetree.TouchOf(above[0])
	var base []*filetree.Listing
	if other := filetree.TouchOf(above[1]); !touched.Equal(other) {
		// What only one side replaces or removes is there on the other side: what
		// it is stands in the base.
		touched.Add(other)
		both, err := d.lists(ctx, 0, &variant{Image: below(a, n), config: a.config, src: a.src, ref: a.ref})
		if err != nil {
			return nil, err
		}
		base = both[0]
		touched.AddLinks(base)
	}
	var trees [2]*filetree.Tree
	for i := range trees {
		all := slices.Concat(base, above[i])
		if trees[i], err = filetree.Merge(all, len(base), touched); err != nil {
			return nil, err
		}
	}
	for path, pair := range filetree.Union(trees[0], trees[1]) {
		if f, ok := compare(path, pair[0], pair[1]); ok {
			out = append(out, f)
		}
	}
	return out, nil
}

// below gives v without the layers from n on.
func below(v *variant, n int) filetree.Image {
	img := v.Image
	img.Layers = img.Layers[:n]
	return img
}

// lists reads the layers of each variant from the n-th on.
func (d *differ) lists(ctx context.Context, n int, variants ...*variant) ([][]*filetree.Listing, error) {
	out := make([][]*filetree.Listing, len(variants))
	g, gctx := errgroup.WithContext(ctx)
	for i, v := range variants {
		out[i] = make([]*filetree.Listing, len(v.Layers)-n)
		for k := range out[i] {
			if !v.holds(n + k) {
				out[i][k] = &filetree.Listing{}
				continue
			}
			g.Go(func() error {
				var err error
				out[i][k], err = d.list(gctx, v, n+k)
				return err
			})
		}
	}
	return out, g.Wait()
}

// list reads layer i of v, or has it from an earlier pair.
func (d *differ) list(ctx context.Context, v *variant, i int) (*filetree.Listing, error) {
	desc := v.Layers[i]
	l, err := d.layers.Get(ctx, desc.Digest, func() (*filetree.Listing, error) {
		if err := d.slots.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		defer d.slots.Release(1)
		l, err := filetree.List(ctx, v.src, desc, d.opt.Layer)
		if err == nil {
			d.read.Add(1)
		}
		return l, err
	})
	if err == nil && v.config.DiffID(i) != "" && l.DiffID != v.config.DiffID(i) && v.config.DiffID(i).Algorithm() == l.DiffID.Algorithm() {
		err = fmt.Errorf("%w: its diffID is %s, the config says %s", oci.ErrInvalid, l.DiffID, v.config.DiffID(i))
	}
	if err != nil {
		return nil, &oci.Error{Op: "read layer", Ref: v.ref, Desc: desc, Err: err}
	}
	return l, nil
}

// compare gives how x and y, which are at path, differ; ok if they do.
func compare(path string, x, y *filetree.File) (f File, ok bool) {
	f = File{Path: path, Change: Changed, What: []string{}, A: entry(x), B: entry(y)}
	switch {
	case x == nil:
		f.Change = Added
		return f, true
	case y == nil:
		f.Change = Removed
		return f, true
	}
	for _, part := range []struct {
		what   string
		differ bool
	}{
		{"type", x.Type != y.Type},
		{"size", x.Size != y.Size},
		{"content", x.Sum != y.Sum},
		{"mode", x.Mode != y.Mode},
		{"owner", x.UID != y.UID || x.GID != y.GID},
		{"link", x.Link != y.Link},
		{"xattrs", x.Xattrs != y.Xattrs},
	} {
		if part.differ {
			f.What = append(f.What, part.what)
		}
	}
	return f, len(f.What) > 0
}

func entry(f *filetree.File) *Entry {
	if f == nil {
		return nil
	}
	return &Entry{Type: f.Type, Size: f.Size, Mode: fmt.Sprintf("%04o", f.Mode), UID: f.UID, GID: f.GID, Link: f.Link, SHA256: f.SHA256()}
}
