package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// written gives d as it is of a manifest that is written: nobody made that up.
func written(d oci.Descriptor) oci.Descriptor {
	if _, ok := d.Annotations[oci.AnnotationSynthetic]; ok {
		d.Annotations = maps.Clone(d.Annotations)
		delete(d.Annotations, oci.AnnotationSynthetic)
	}
	return d
}

// recodes reports whether the target may want layers that a manifest describes
// to be compressed otherwise.
func (c *copier) recodes() bool { return !c.Traits.Raw && !keeps(c.Traits) }

// recoded reports whether the manifest n is an image that can't be written as it
// is, because of how its layers are compressed or because it was made up.
func (c *copier) recoded(n node) bool {
	if c.Traits.Raw || n.m.IsIndex() || !isImageConfig(n.m.Config.MediaType) {
		return false
	}
	return oci.IsSynthetic(n.Descriptor) || slices.ContainsFunc(n.m.Layers, func(d oci.Descriptor) bool { return c.recodeTo(n, d) != "" })
}

// recodeTo gives the codec that layer d of n is to be compressed with anew, "" if
// it stays as it is. A foreign layer does: its URLs lead to these bytes.
func (c *copier) recodeTo(n node, d oci.Descriptor) layer.Codec {
	if c.Traits.Raw || isForeign(d) {
		return ""
	}
	codec, change := wantedCodec(c.Traits, d.MediaType, oci.IsSynthetic(n.Descriptor))
	if !change {
		return ""
	}
	return codec
}

func (c *copier) recoding(d oci.Descriptor, i int, codec layer.Codec) *Making {
	return newRecoding(fetcher(c.Source, d), d, i, codec)
}

// recodeLayer brings layer i, which filters left as l, compressed with codec.
func (t *tree) recodeLayer(ctx context.Context, l result, i int, codec layer.Codec) (result, error) {
	mk := t.recoding(l.desc, i, codec)
	mk.Compare, mk.Sure = t.compare, t.Traits.Ordered
	made, way, err := t.mover.Make(ctx, mk)
	if err == nil && made.Digest != "" && made.DiffID != l.diffID {
		err = fmt.Errorf("%w: its tar is %s, the config's diff_ids say %s", oci.ErrDigestMismatch, made.DiffID, l.diffID)
	}
	if err != nil {
		return result{}, oci.Wrap(err, "recode layer", t.report.Reference, l.desc)
	}
	t.tally(way, l.desc.Size)
	if made.Digest == "" {
		l.made = &made // a dry run reads no layer
		return l, nil
	}
	t.copier.mu.Lock()
	t.report.LayersRecoded++
	t.copier.mu.Unlock()
	l.desc = mk.Desc(made)
	return l, nil
}

// checkSynthetic returns an error unless the layers of the made-up manifest m are
// those that the config speaks of.
func checkSynthetic(m *oci.Manifest, diffIDs []oci.Digest) error {
	for i, d := range m.Layers {
		if d.Digest != diffIDs[i] {
			return fmt.Errorf("%w: layer %d is %s, the config's diff_ids say %s", oci.ErrDigestMismatch, i, d.Digest, diffIDs[i])
		}
	}
	return nil
}
