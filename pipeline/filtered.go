package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// alters reports whether f may change what an image is.
func alters(f filter.Chain) bool { return len(f.Images) > 0 || f.Changes }

// filterIDs names what the filters do to an image, "" if they change nothing.
func filterIDs(f filter.Chain) string {
	if !alters(f) {
		return ""
	}
	ids := howMade(f, layer.None)
	for _, i := range f.Images {
		ids += " image:" + i.ID()
	}
	return ids
}

// wantsFilters reports whether the manifest n is an image that filters apply
// to. Artifacts pass as they are, also those that call their config an image's
// and have no layer of tar (attestations).
func (c *copier) wantsFilters(n node) bool {
	if c.opt.Filters.Empty() || n.m.IsIndex() || !isImageConfig(n.m.Config.MediaType) {
		return false
	}
	return len(n.m.Layers) == 0 || slices.ContainsFunc(n.m.Layers, func(d oci.Descriptor) bool {
		_, ok := layer.CodecOf(d.MediaType)
		return ok || strings.Contains(d.MediaType, "image.layer") || strings.Contains(d.MediaType, "image.rootfs") // encrypted: an error, and not silence
	})
}

// filtered brings the layers and the config of image n through the filters, and
// compressed as the target wants them. It gives the manifest as it is to be.
func (t *tree) filtered(ctx context.Context, n node, child bool) (node, error) {
	e, err := t.openEdit(ctx, n)
	if err != nil {
		return node{}, err
	}
	t.countLayers(n)
	first := t.firsts(n.m.Layers)
	config := *n.m.Config
	layers := make([]result, len(n.m.Layers))
	if err := each(ctx, n.m.Layers, t.atOnce(), func(ctx context.Context, i int, _ oci.Descriptor) (err error) {
		if first[i] == i {
			layers[i], err = t.filterLayer(ctx, e, i)
		}
		return err
	}); err != nil {
		return node{}, err
	}
	for i := range layers {
		if layers[i] = layers[first[i]]; layers[i].made != nil && layers[i].made.Digest == "" {
			t.unknown.Store(true) // a dry run reads no layer
			return n, t.move(ctx, t.piece(config, -1))
		}
	}
	raw, n, err := e.close(layers)
	if err != nil {
		return node{}, oci.Wrap(err, "filter image", t.report.Reference, e.Descriptor)
	}
	t.observed(e, layers, child)
	p := t.piece(*n.m.Config, -1)
	p.Size = config.Size
	p.Blob.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	return n, t.move(ctx, p)
}

// firsts gives for each of all where the same content stands first: it is brought
// once. Where layers go on top of each other it is brought at each place.
func (c *copier) firsts(all []oci.Descriptor) []int {
	at := map[oci.Digest]int{}
	first := make([]int, len(all))
	for i, d := range all {
		f, again := at[d.Digest]
		if !again || c.Traits.Ordered {
			f, at[d.Digest] = i, i
		}
		first[i] = f
	}
	return first
}

// filterLayer brings layer i through the filters, or as it is if they leave it
// so and the target takes it so.
func (t *tree) filterLayer(ctx context.Context, e *edit, i int) (result, error) {
	d, diffID := e.m.Layers[i], oci.Digest("")
	if len(e.diffIDs) == len(e.m.Layers) {
		diffID = e.diffIDs[i]
	}
	asItIs := result{desc: d, diffID: diffID}
	again := false
	if t.reads() {
		mk, err := t.making(e.node, i)
		if err != nil {
			return result{}, oci.Wrap(err, "filter layer", t.report.Reference, d)
		}
		mk.Compare, mk.Sure = t.compare, t.Traits.Ordered
		made, way, err := t.mover.Make(ctx, mk)
		switch {
		case errors.Is(err, oci.ErrNotFound) && isForeign(d):
			t.opt.warnf("foreign layer %s is not at the source, so only its mention is copied, and no filter sees it", d.Digest)
			return asItIs, nil
		case err != nil:
			return result{}, oci.Wrap(err, "filter layer", t.report.Reference, d)
		case made.Digest == "":
			t.tally(way, d.Size)
			return result{desc: d, made: &made}, nil
		case !made.Unchanged:
			t.tally(way, d.Size)
			t.copier.mu.Lock()
			t.report.LayersFiltered++
			t.copier.mu.Unlock()
			return result{desc: mk.Desc(made), diffID: made.DiffID, made: &made}, nil
		}
		asItIs.made, again = &made, made.TarSize >= 0
	}
	if codec := t.recodeTo(e.node, d); codec != "" {
		return t.recodeLayer(ctx, asItIs, i, codec)
	}
	p := t.piece(d, i)
	if t.Traits.Raw {
		p = t.plainLayer(d, diffID, i)
	}
	p.Again = again
	err := t.move(ctx, p)
	if errors.Is(err, oci.ErrNotFound) && isForeign(d) {
		t.opt.warnf("foreign layer %s is not at the source, so only its mention is copied", d.Digest)
		err = nil
	}
	return asItIs, err
}

// reads reports whether layers must be read for the filters.
func (c *copier) reads() bool {
	return (len(c.opt.Filters.Entries) > 0 || c.opt.Filters.Looks) && (!c.opt.DryRun || c.opt.Filters.Changes)
}

// making is layer i of n on its way through the filters.
func (c *copier) making(n node, i int) (*Making, error) {
	d := n.m.Layers[i]
	codec, _ := wantedCodec(c.Traits, d.MediaType, oci.IsSynthetic(n.Descriptor))
	if codec == "" {
		return nil, fmt.Errorf("media type %q is no layer of tar: %w", d.MediaType, oci.ErrUnsupported)
	}
	return newMaking(c.Source, c.opt.Filters, d, i, codec, layer.SpareSource), nil
}

// observed keeps what the observers are to be told of e once all of it is done.
func (t *tree) observed(e *edit, layers []result, child bool) {
	if len(t.opt.Filters.Observers) == 0 || t.opt.DryRun {
		return
	}
	o := filter.Outcome{Image: &e.img, Child: child}
	for i, l := range layers {
		was := e.m.Layers[i]
		s := filter.Layer{
			Before: filter.State{Digest: was.Digest, Size: -1},
			After:  filter.State{Digest: l.desc.Digest, DiffID: l.diffID, Size: -1},
		}
		if i < len(e.diffIDs) {
			s.Before.DiffID = e.diffIDs[i]
		}
		if l.made != nil {
			s.Before.Size, s.After.Size = l.made.SourceTarSize, l.made.TarSize
			if l.made.Unchanged {
				s.After = s.Before
			}
		}
		o.Layers = append(o.Layers, s)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[e.Digest] = o
}

// observe tells the observers of all images below root, in the order of their
// indexes.
func (t *tree) observe(ctx context.Context, root node) error {
	if len(t.outcomes) == 0 {
		return nil
	}
	for _, d := range t.order(root) {
		if o, ok := t.outcomes[d]; ok {
			delete(t.outcomes, d)
			if err := t.opt.Filters.Observe(ctx, o); err != nil {
				return oci.Wrap(err, "tell filters", t.report.Reference, oci.Descriptor{})
			}
		}
	}
	return nil
}

// order lists the manifests below root, itself first.
func (t *tree) order(root node) []oci.Digest {
	all := []oci.Digest{root.Digest}
	for _, d := range root.m.Manifests {
		if v := t.visits[d.Digest]; v != nil && v.was.m != nil {
			all = append(all, t.order(v.was)...)
		}
	}
	return all
}
