package pipeline

import (
	"context"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A foresight tells what a copy would come to without reading a layer.
type foresight struct {
	*copier
	there oci.Descriptor // under the destination's name

	images map[oci.Digest]node // below there, by their configs; nil before they were looked at
}

// foreseen reports whether there is what the filters and other compression are to
// make of root, where that is known without reading a layer. Whatever goes wrong
// on the way will go wrong again when it is done in earnest.
func (c *copier) foreseen(ctx context.Context, root node, there oci.Descriptor) bool {
	if c.opt.Filters.Looks || c.Traits.Raw || c.filters == "" && !c.recodes() && !oci.IsSynthetic(root.Descriptor) {
		return false
	}
	f := &foresight{copier: c, there: there}
	n, ok := f.image(ctx, root, 0, false)
	return ok && n.Digest == there.Digest
}

// image gives what is to be made of n.
func (f *foresight) image(ctx context.Context, n node, depth int, plain bool) (node, bool) {
	switch {
	case n.m.IsIndex() && depth < maxDepth:
		return f.index(ctx, n, depth)
	case n.m.IsIndex():
		return node{}, false
	case plain || !f.wantsFilters(n) && !f.recoded(n):
		return n, true
	case oci.IsSynthetic(n.Descriptor) && f.filters == "":
		return f.synthetic(ctx, n)
	}
	layers := make([]result, len(n.m.Layers))
	for i, d := range n.m.Layers {
		layers[i] = result{desc: d}
		if !f.reads() {
			continue
		}
		mk, err := f.making(n, i)
		if err != nil {
			return node{}, false
		}
		made, ok := f.mover.Known(mk)
		if !ok || made.Digest == "" {
			return node{}, false
		}
		if !made.Unchanged {
			layers[i] = result{desc: mk.Desc(made), diffID: made.DiffID}
		}
	}
	e, err := f.openEdit(ctx, n)
	if err != nil {
		return node{}, false
	}
	if depth == 0 {
		f.config, f.configRaw = n.m.Config.Digest, e.config // in case that it is to be copied
	}
	if !f.recode(ctx, e, layers) {
		return node{}, false
	}
	_, n, err = e.close(layers)
	return n, err == nil
}

// recode enters into layers what those come to that are to be compressed
// otherwise. false: that isn't known.
func (f *foresight) recode(ctx context.Context, e *edit, layers []result) bool {
	var like []oci.Descriptor
	looked := false
	for i, d := range e.m.Layers {
		codec := f.recodeTo(e.node, d)
		if codec == "" || layers[i].desc.Digest != d.Digest { // the filters' pass wrote it so
			continue
		}
		mk := f.recoding(d, i, codec)
		if made, ok := f.mover.Known(mk); ok && made.Digest != "" {
			if made.DiffID != e.diffIDs[i] {
				return false
			}
			layers[i].desc = mk.Desc(made)
			continue
		}
		if !looked {
			config, err := e.newConfig(layers)
			if err != nil {
				return false
			}
			looked, like = true, f.layersOf(ctx, e.m.Config.Digest.Algorithm().FromBytes(config))
		}
		if len(like) != len(layers) {
			return false
		}
		if is, _ := layer.CodecOf(like[i].MediaType); is != codec {
			return false
		}
		layers[i].desc = mk.Desc(Made{Digest: like[i].Digest, Size: like[i].Size})
	}
	return true
}

// synthetic gives the destination's own image with the config of n, if its
// layers are compressed as they are to be. The config says what is in them.
func (f *foresight) synthetic(ctx context.Context, n node) (node, bool) {
	like, ok := f.look(ctx)[n.m.Config.Digest]
	if !ok || len(like.m.Layers) != len(n.m.Layers) {
		return node{}, false
	}
	for i, d := range n.m.Layers {
		want, _ := wantedCodec(f.Traits, d.MediaType, true)
		is, _ := layer.CodecOf(like.m.Layers[i].MediaType)
		if is != want || is == layer.None && like.m.Layers[i].Digest != d.Digest {
			return node{}, false
		}
	}
	return like, true
}

// layersOf gives the layers of the destination's image with this config, nil if
// it has none: they hold what a copy would put there, since the config says so.
func (f *foresight) layersOf(ctx context.Context, config oci.Digest) []oci.Descriptor {
	if like, ok := f.look(ctx)[config]; ok {
		return like.m.Layers
	}
	return nil
}

// look gives the images that the destination's name has now, by their configs;
// those that can't be read are left out.
func (f *foresight) look(ctx context.Context) map[oci.Digest]node {
	if f.images != nil {
		return f.images
	}
	f.images = map[oci.Digest]node{}
	if d, raw, err := f.Dest.Resolve(ctx, string(f.there.Digest)); err == nil {
		if n, err := parse(d, raw); err == nil {
			f.enter(ctx, n, 0)
		}
	}
	return f.images
}

func (f *foresight) enter(ctx context.Context, n node, depth int) {
	if !n.m.IsIndex() {
		f.images[n.m.Config.Digest] = n
		return
	}
	for _, d := range n.m.Manifests {
		if depth == maxDepth || len(f.images) > maxManifests {
			return
		}
		if !isManifest(d) || isAttestation(d) {
			continue
		}
		if child, err := readChild(ctx, f.Dest, d); err == nil {
			f.enter(ctx, child, depth+1)
		}
	}
}

func (f *foresight) index(ctx context.Context, n node, depth int) (node, bool) {
	now := map[oci.Digest]oci.Descriptor{}
	for _, d := range n.m.Manifests {
		if !isManifest(d) || isAttestation(d) {
			now[d.Digest] = d
			continue
		}
		child, err := f.child(ctx, d)
		if err != nil {
			return node{}, false
		}
		child, ok := f.image(ctx, child, depth+1, false)
		if !ok {
			return node{}, false
		}
		now[d.Digest] = child.Descriptor
	}
	n, err := newIndex(n, now, untrue(n, now))
	return n, err == nil
}
