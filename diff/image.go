package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// uses counts how many variants will still ask for a layer.
type uses struct {
	mu sync.Mutex
	n  map[oci.Digest]int
}

// add counts the layers of all, n times, and gives those that nobody asks for
// any more.
func (u *uses) add(n int, all ...*variant) (unused []oci.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == nil {
		u.n = map[oci.Digest]int{}
	}
	for _, v := range all {
		for _, d := range v.Layers {
			if u.n[d.Digest] += n; u.n[d.Digest] == 0 {
				delete(u.n, d.Digest)
				unused = append(unused, d.Digest)
			}
		}
	}
	return unused
}

// A resolved is a pair whose manifests and configs were read where its digests
// differ.
type resolved struct {
	img       Image
	platforms []platforms // that differ
}

// platforms are one platform as each side has it, nil where it has none.
type platforms struct {
	name string
	a, b *variant
}

// resolved reads the manifests of all pairs, so that it is known how often each
// layer will be asked for.
func (d *differ) resolved(ctx context.Context, pairs []pair) []*resolved {
	all := make([]*resolved, 0, len(pairs))
	for r := range inOrder(ctx, d.opt.Images, pairs, d.resolve) {
		for _, p := range r.platforms {
			if p.a != nil && p.b != nil {
				d.uses.add(1, p.a, p.b)
			}
		}
		all = append(all, r)
	}
	return all
}

// resolve looks at one pair. The status is "" where both are the same.
func (d *differ) resolve(ctx context.Context, p pair) *resolved {
	r := &resolved{img: Image{Image: p.name, Platforms: []PlatformChange{}}}
	switch {
	case p.b == nil:
		r.img.Status, r.img.A = Removed, only(*p.a)
		return r
	case p.a == nil:
		r.img.Status, r.img.B = Added, only(*p.b)
		return r
	}
	r.img.A, r.img.B = side(*p.a), side(*p.b)
	if err := d.differs(ctx, p, r); err != nil {
		r.img.Status, r.img.Error = Failed, err.Error()
	}
	return r
}

// only is an image that the other side hasn't got.
func only(item oci.Item) *Side {
	s := side(item)
	if oci.IsSynthetic(item.Desc) {
		s.Digest = ""
	}
	return s
}

func side(item oci.Item) *Side {
	s := &Side{Reference: item.Ref.Tagged(), Digest: item.Desc.Digest}
	if s.Reference == "" {
		s.Reference = string(s.Digest)
	}
	return s
}

func (d *differ) differs(ctx context.Context, p pair, r *resolved) error {
	a, errA := open(ctx, d.a, *p.a, r.img.A)
	b, errB := open(ctx, d.b, *p.b, r.img.B)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if r.img.A.Digest == r.img.B.Digest {
		return nil
	}
	va, errA := d.variants(ctx, a, *p.a, d.a.Platforms)
	vb, errB := d.variants(ctx, b, *p.b, d.b.Platforms)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	madeUp := false
	for s, all := range map[*Side]map[string]*variant{r.img.A: va, r.img.B: vb} {
		for _, v := range all {
			if v.madeUp() {
				madeUp, s.Digest = true, "" // nobody else knows it
			}
		}
	}
	if r.platforms = match(va, vb); len(r.platforms) > 0 || len(d.a.Platforms)+len(d.b.Platforms) == 0 && !madeUp {
		r.img.Status = Changed
	}
	return nil
}

// open opens the source of item, and asks for its digest where the listing
// doesn't know it.
func open(ctx context.Context, place Place, item oci.Item, s *Side) (oci.Source, error) {
	src, err := place.Images.Source(ctx, item)
	if err != nil {
		return nil, oci.Wrap(err, "open source", s.Reference, oci.Descriptor{})
	}
	if s.Digest == "" {
		desc, err := src.Head(ctx, item.Ref.Reference())
		if err != nil {
			return nil, oci.Wrap(err, "get manifest", s.Reference, oci.Descriptor{})
		}
		s.Digest = desc.Digest
	}
	return src, nil
}

// variants reads what item consists of, with configs.
func (d *differ) variants(ctx context.Context, src oci.Source, item oci.Item, want []oci.Platform) (map[string]*variant, error) {
	images, err := pipeline.Images(ctx, src, item, want)
	if err != nil {
		return nil, err
	}
	out := map[string]*variant{}
	for _, img := range images {
		v := &variant{Image: img, src: src, ref: item.Ref.Tagged()}
		if v.config, err = d.configs.Get(ctx, img.Config.Digest, func() (*filetree.Config, error) { return filetree.ReadConfig(ctx, src, img) }); err != nil {
			return nil, &oci.Error{Op: "read config", Ref: v.ref, Desc: img.Config, Err: err}
		}
		p := v.config.Platform
		if img.Platform != nil && img.Platform.OS != "" {
			p = *img.Platform
		}
		name := platform(p)
		if p.OSVersion != "" {
			name += " " + p.OSVersion
		}
		for i := 2; out[name] != nil; i++ { // an index may have several for a platform
			name = fmt.Sprintf("%s #%d", platform(p), i)
		}
		out[name] = v
	}
	return out, nil
}

func platform(p oci.Platform) string { return pipeline.PlatformName(&p) }

// same reports whether a and b are one image: of one digest, or of one config
// where a place keeps no manifests.
func same(a, b *variant) bool {
	if a.madeUp() || b.madeUp() {
		return a.Config.Digest == b.Config.Digest && len(a.Layers) == len(b.Layers)
	}
	return a.Manifest.Digest == b.Manifest.Digest
}

// match pairs the platforms and leaves out those that are the same. One image
// and one image are a pair whatever they are for.
func match(a, b map[string]*variant) (out []platforms) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	names := slices.Sorted(maps.Keys(all))
	if len(a) == 1 && len(b) == 1 && len(names) == 2 {
		own := slices.Collect(maps.Keys(a))
		names, b = own, map[string]*variant{own[0]: slices.Collect(maps.Values(b))[0]}
	}
	for _, name := range names {
		p := platforms{name, a[name], b[name]}
		if p.a == nil || p.b == nil || !same(p.a, p.b) {
			out = append(out, p)
		}
	}
	return out
}

// compare fills in what differs of r.
func (d *differ) compare(ctx context.Context, r *resolved) Image {
	for _, p := range r.platforms {
		c := d.platform(ctx, p)
		if c.Error != "" {
			r.img.Status = Failed
		}
		r.img.Platforms = append(r.img.Platforms, c)
	}
	return r.img
}

func (d *differ) platform(ctx context.Context, p platforms) PlatformChange {
	c := PlatformChange{Platform: p.name, Status: Changed, Layers: []Layer{}, Files: []File{}, Config: []Setting{}, Labels: []Setting{}}
	if p.a != nil {
		c.A = p.a.digest()
	}
	if p.b != nil {
		c.B = p.b.digest()
	}
	switch {
	case p.a == nil:
		c.Status = Added
		return c
	case p.b == nil:
		c.Status = Removed
		return c
	}
	c.Layers = layers(p.a, p.b)
	c.Config, c.Labels = settings(p.a.config, p.b.config), labels(p.a.config, p.b.config)
	files, err := d.files(ctx, p.a, p.b)
	if err != nil {
		c.Status, c.Error = Failed, err.Error()
	} else {
		c.Files = files
	}
	for _, digest := range d.uses.add(-1, p.a, p.b) {
		d.layers.Forget(digest)
	}
	return c
}
