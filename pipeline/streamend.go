package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// close makes the manifest of what was put and puts it under the image's name.
func (s *streaming) close(ctx context.Context, there *oci.Descriptor) error {
	fail := func(err error) error {
		return oci.Wrap(err, "read image", s.report.Reference, oci.Descriptor{})
	}
	if s.config == nil {
		return fail(fmt.Errorf("%w: the source gave no config", oci.ErrNotFound))
	}
	base, err := s.own()
	if err != nil {
		return fail(err)
	}
	layers, err := s.results()
	if err != nil {
		return fail(err)
	}
	if base.m == nil {
		if base, err = s.madeUp(); err != nil {
			return fail(err)
		}
	}
	s.learnt(base.Descriptor)
	s.report.Layers = len(layers)
	for i, d := range base.m.Layers {
		// In the words of its own manifest, which speaks of no plain tar: that holds
		// where no filter made another layer of it.
		if d.Digest == layers[i].desc.Digest || s.Traits.Raw && layers[i].diffID == s.diffIDs[i] {
			layers[i].desc = d
		}
	}
	e, err := s.openEdit(ctx, base)
	if err != nil {
		return err
	}
	config, root, err := e.close(layers)
	if err != nil {
		return oci.Wrap(err, "make manifest", s.report.Reference, base.Descriptor)
	}
	s.observed(e, layers, false)
	s.named(s.outcomes[base.Digest].Layers)
	if err := s.putConfig(ctx, *root.m.Config, config); err != nil {
		return err
	}
	s.wrote(root.Descriptor)
	if there != nil && s.isThere(*there, root) {
		err = s.skip(ctx, *there)
	} else {
		err = s.commit(ctx, root, origin(base))
	}
	if err != nil {
		return err
	}
	return s.observe(ctx, base)
}

func (s *streaming) putConfig(ctx context.Context, d oci.Descriptor, raw []byte) error {
	there, err := s.dest.Has(ctx, d)
	way := Present
	if err == nil && !there {
		way = Fetched
		_, err = s.dest.PutBlob(ctx, oci.Blob{Desc: d, Layer: oci.NoLayer, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw)), nil
		}})
	}
	if err != nil {
		return oci.Wrap(err, "copy config", s.report.Reference, d)
	}
	s.tally(way, int64(len(s.config)))
	return nil
}

// own gives the manifest of the stream that lists what the stream had; m is nil
// if there is none. What came without a diffID gets it.
func (s *streaming) own() (node, error) {
	bySource := map[oci.Digest]*streamed{}
	for _, l := range s.layers {
		bySource[l.source.Digest] = l
	}
	for _, m := range s.manifests {
		raw := []byte(m[1])
		n, err := parse(oci.Descriptor{MediaType: m[0], Digest: digestOf(raw), Size: int64(len(raw))}, raw)
		if err != nil || n.m.IsIndex() || n.m.Config.Digest != s.copier.config || len(n.m.Layers) != len(s.diffIDs) {
			continue // it is of something else
		}
		lists := true
		for i, d := range n.m.Layers {
			l := bySource[d.Digest]
			if lists = lists && l != nil && (l.was == "" || l.was == s.diffIDs[i]); !lists {
				break
			}
		}
		if !lists {
			continue
		}
		for i, d := range n.m.Layers {
			bySource[d.Digest].was = s.diffIDs[i]
		}
		return n, nil
	}
	return node{}, nil
}

// results gives what became of the layers, in the order of the config. All that
// came must be among them.
func (s *streaming) results() ([]result, error) {
	byID := map[oci.Digest]*streamed{}
	for _, l := range s.layers {
		byID[l.was] = l
	}
	known := map[oci.Digest]bool{}
	out := make([]result, len(s.diffIDs))
	var missing, strange error
	for i, id := range s.diffIDs {
		known[id] = true
		l := byID[id]
		if l != nil && l.done {
			out[i] = l.result
		} else if missing == nil {
			missing = fmt.Errorf("layer %d: %w: the source gave none with diffID %s", i, oci.ErrNotFound, id)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.layers)) {
		l := s.layers[key]
		switch at := l.claims.Layer; {
		case strange != nil:
		case l.was == "":
			strange = fmt.Errorf("%w: nothing tells which layer %s is", oci.ErrInvalid, l.source.Digest)
		case !known[l.was]:
			strange = fmt.Errorf("%w: the source gave a layer with diffID %s, which the config doesn't list", oci.ErrInvalid, l.was)
		case at >= 0 && (at >= len(s.diffIDs) || s.diffIDs[at] != l.was):
			strange = fmt.Errorf("layer %d: %w: the source gave one with diffID %s", at, oci.ErrInvalid, l.was)
		}
	}
	if missing != nil && strange != nil { // one of them is damaged, perhaps
		return nil, fmt.Errorf("%w; %w", missing, strange)
	}
	return out, cmp.Or(missing, strange)
}

// madeUp gives the manifest of an image whose place keeps none.
func (s *streaming) madeUp() (node, error) {
	byID := map[oci.Digest]oci.Descriptor{}
	for _, l := range s.layers {
		byID[l.was] = l.source
	}
	layers := make([]oci.Descriptor, len(s.diffIDs))
	for i, id := range s.diffIDs {
		layers[i] = oci.Descriptor{Digest: id, Size: byID[id].Size}
	}
	d, raw, err := layout.Synthetic(oci.Descriptor{Digest: s.copier.config, Size: int64(len(s.config))}, layers)
	if err != nil {
		return node{}, err
	}
	return parse(d, raw)
}

// named calls the layers by the digests that the filters saw them by.
func (s *streaming) named(layers []filter.Layer) {
	for i := range layers {
		for _, l := range s.layers {
			if l.was != s.diffIDs[i] {
				continue
			}
			same := layers[i].After == layers[i].Before
			if layers[i].Before.Digest = l.claims.Desc.Digest; l.claims.Desc.Digest == "" {
				layers[i].Before.Digest = l.was
			}
			if same {
				layers[i].After = layers[i].Before
			}
		}
	}
}
