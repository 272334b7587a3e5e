package pipeline

import (
	"context"

	"github.com/quaymaster/quaymaster/oci"
)

// foreseen reports whether there is what the filters are to make of root, where
// that is known without reading a layer. Whatever goes wrong on the way will go
// wrong again when it is done in earnest.
func (c *copier) foreseen(ctx context.Context, root node, there oci.Descriptor) bool {
	if c.filters == "" || c.opt.Filters.Looks || c.Traits.Raw {
		return false
	}
	n, ok := c.foresee(ctx, root, 0, false)
	return ok && n.Digest == there.Digest
}

// foresee gives what the filters are to make of n.
func (c *copier) foresee(ctx context.Context, n node, depth int, plain bool) (node, bool) {
	switch {
	case n.m.IsIndex() && depth < maxDepth:
		return c.foreseeIndex(ctx, n, depth)
	case n.m.IsIndex():
		return node{}, false
	case plain || !c.wantsFilters(n):
		return n, true
	}
	layers := make([]result, len(n.m.Layers))
	for i, d := range n.m.Layers {
		layers[i] = result{desc: d}
		if !c.reads() {
			continue
		}
		mk, err := c.making(d, i)
		if err != nil {
			return node{}, false
		}
		made, ok := c.mover.Known(mk)
		if !ok || made.Digest == "" {
			return node{}, false
		}
		if !made.Unchanged {
			layers[i] = result{desc: mk.Desc(made), diffID: made.DiffID}
		}
	}
	e, err := c.openEdit(ctx, n)
	if err != nil {
		return node{}, false
	}
	if depth == 0 {
		c.config, c.configRaw = n.m.Config.Digest, e.config // in case that it is to be copied
	}
	_, n, err = e.close(layers)
	return n, err == nil
}

func (c *copier) foreseeIndex(ctx context.Context, n node, depth int) (node, bool) {
	now := map[oci.Digest]oci.Descriptor{}
	for _, d := range n.m.Manifests {
		if !isManifest(d) || isAttestation(d) {
			now[d.Digest] = d
			continue
		}
		child, err := c.child(ctx, d)
		if err != nil {
			return node{}, false
		}
		child, ok := c.foresee(ctx, child, depth+1, false)
		if !ok {
			return node{}, false
		}
		now[d.Digest] = child.Descriptor
	}
	n, err := newIndex(n, now, untrue(n, now))
	return n, err == nil
}
