package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// layer takes the layer b, which comes next.
func (s *streaming) layer(ctx context.Context, b oci.Blob) error {
	l, err := s.claimed(b)
	if err != nil {
		return oci.Wrap(err, "read layer", s.report.Reference, b.Desc)
	}
	switch {
	case l.done && b.Desc.Digest != "" || l.spooled != nil:
		return nil
	case l.done:
		err = s.compare(ctx, l, b)
	case s.Traits.Ordered:
		err = s.inTurn(ctx, l, b)
	default:
		err = s.bringPart(ctx, l, b)
	}
	return oci.Wrap(err, "copy layer", s.report.Reference, l.source)
}

// claimed gives what is known of the layer b.
func (s *streaming) claimed(b oci.Blob) (*streamed, error) {
	key := string(b.Desc.Digest)
	if key == "" {
		key = strconv.Itoa(s.arrived) // streams of one image are alike; compare makes sure
	}
	if s.arrived++; s.arrived > maxStreamLayers {
		return nil, fmt.Errorf("%w: more than %d layers", oci.ErrTooLarge, maxStreamLayers)
	}
	for _, d := range []oci.Digest{b.Desc.Digest, b.DiffID} {
		if d == "" {
			continue
		}
		if err := oci.ValidDigest(d); err != nil {
			return nil, err
		}
	}
	l := s.layers[key]
	if l == nil {
		l = &streamed{source: b.Desc}
		s.layers[key] = l
	}
	l.claims = b
	return l, nil
}

// maxStreamLayers bounds the layers of one image: 10,000, as of a manifest.
const maxStreamLayers = 10_000

// compare reads b, whose digest isn't known, where l was put in an earlier stream.
func (s *streaming) compare(ctx context.Context, l *streamed, b oci.Blob) error {
	st, err := openPart(ctx, b)
	if err != nil {
		return err
	}
	defer st.close()
	if err := st.drain(); err != nil {
		return err
	}
	return l.same(st)
}

// same returns an error unless st is the layer that l was in an earlier stream.
func (l *streamed) same(st *stock) error {
	if l.source.Digest != "" && st.desc.Digest != l.source.Digest {
		return fmt.Errorf("%w: the source gave %s in its place when it was read before", oci.ErrDigestMismatch, l.source.Digest)
	}
	return nil
}

// bringPart brings the layer b where it comes.
func (s *streaming) bringPart(ctx context.Context, l *streamed, b oci.Blob) error {
	if there, err := s.isPut(ctx, l, b); there || err != nil {
		return err
	}
	st, err := openPart(ctx, b)
	if err != nil {
		return err
	}
	defer st.close()
	return s.bring(ctx, l, st, s.place(l))
}

// place is where the layer l lies, as far as that is known before it is read.
func (s *streaming) place(l *streamed) int {
	if l.claims.Layer >= 0 {
		return l.claims.Layer
	}
	if id := s.diffID(l); id != "" {
		if i := slices.Index(s.ids(), id); i >= 0 {
			return i
		}
	}
	return oci.UnknownLayer
}

// diffID is that of l's tar as it comes, "" as long as it isn't known.
func (s *streaming) diffID(l *streamed) oci.Digest {
	codec, ok := layer.CodecOf(l.claims.Desc.MediaType)
	ids := s.ids()
	switch {
	case l.was != "":
		return l.was
	case l.claims.DiffID != "":
		return l.claims.DiffID
	case ok && codec == layer.None && l.claims.Desc.Digest != "":
		return l.claims.Desc.Digest
	case l.claims.Layer >= 0 && l.claims.Layer < len(ids):
		return ids[l.claims.Layer]
	}
	return ""
}

// isPut reports whether the layer is at the destination, so that it needn't be
// read.
func (s *streaming) isPut(ctx context.Context, l *streamed, b oci.Blob) (bool, error) {
	codec, ok := layer.CodecOf(b.Desc.MediaType)
	if !ok || s.reads() || b.Desc.Size < 0 {
		return false, nil
	}
	id := s.diffID(l)
	d := b.Desc
	switch want, change := s.wanted(b.Desc.MediaType, codec); {
	case s.Traits.Raw && id != "":
		d = oci.Descriptor{MediaType: want.MediaType(d.MediaType), Digest: id, Size: -1}
		if codec == layer.None {
			d.Size = b.Desc.Size
		}
	case s.Traits.Raw, change, d.Digest == "", id == "" && s.told.synthetic:
		return false, nil // it isn't known by name, or nobody would say where it lies
	}
	there, err := s.dest.Has(ctx, d)
	if !there || err != nil {
		return false, err
	}
	l.was, l.result, l.done = id, result{desc: d, diffID: id}, true
	s.tally(Present, b.Desc.Size)
	return true, nil
}

// wanted says how the destination is to have a layer that came as mt, in codec.
func (s *streaming) wanted(mt oci.MediaType, codec layer.Codec) (layer.Codec, bool) {
	// What is compressed was pulled so; what isn't, no manifest may ever have named.
	return wantedCodec(s.Traits, mt, s.told.synthetic && codec == layer.None)
}

// bring brings the layer l, whose content is st, to place.
func (s *streaming) bring(ctx context.Context, l *streamed, st *stock, place int) error {
	err := s.make(ctx, l, st, place)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case st.broken != nil:
		return &brokenError{st.broken}
	case errors.Is(err, errOnce):
		s.again++
		if l.mk == nil || l.mk.pass.Restarts() == l.restarts { // no filter wants it: the destination does
			s.failed = oci.Wrap(err, "put blob", s.report.Destination, st.desc)
		}
		return l.remember(st)
	}
	return err
}

// remember notes which layer it was that is needed once more.
func (l *streamed) remember(st *stock) error {
	if !st.ended {
		return nil
	}
	if err := l.same(st); err != nil {
		return err
	}
	l.source.Digest, l.source.Size = st.desc.Digest, st.desc.Size
	return nil
}

// make makes of the layer l what the destination wants.
func (s *streaming) make(ctx context.Context, l *streamed, st *stock, place int) error {
	codec, err := layer.Sniff(st.first)
	if err != nil {
		return err
	}
	desc := st.desc
	if said, ok := layer.CodecOf(desc.MediaType); !ok || said != codec {
		desc.MediaType = codec.MediaType(desc.MediaType)
	}
	if s.reads() && s.opt.Filters.Changes && l.unchanged == nil {
		if done, err := s.filter(ctx, l, st, desc, place); done || err != nil {
			return err
		}
	}
	want, change := s.wanted(desc.MediaType, codec)
	look := &looker{filters: s.opt.Filters.Entries, desc: l.seen(desc), size: desc.Size, looks: s.reads() && l.unchanged == nil, plain: codec == layer.None}
	if l.unchanged != nil {
		l.made = l.unchanged
	}
	var way Way
	switch {
	case s.Traits.Raw:
		way, err = s.plain(ctx, l, st, desc, place, look)
	case change:
		way, err = s.recode(ctx, l, st, desc, place, want, look)
	default:
		way, err = s.keep(ctx, l, st, desc, place, look)
	}
	if err != nil {
		return err
	}
	return s.finish(l, st, way)
}

// seen is desc as filters see it: with a digest only if that was known before.
func (l *streamed) seen(desc oci.Descriptor) oci.Descriptor {
	desc.Digest = l.claims.Desc.Digest
	return desc
}

// finish notes that l is put.
func (s *streaming) finish(l *streamed, st *stock, way Way) error {
	if err := l.same(st); err != nil {
		return err
	}
	if said := l.claims.DiffID; said != "" && said != l.was {
		return fmt.Errorf("%w: its diffID is %s, the source says %s", oci.ErrDigestMismatch, l.was, said)
	}
	l.source, l.done = st.desc, true
	s.tally(way, st.desc.Size)
	return nil
}

// filter brings what the filters make of l, unless they leave it as it is.
func (s *streaming) filter(ctx context.Context, l *streamed, st *stock, desc oci.Descriptor, place int) (done bool, err error) {
	if l.mk == nil {
		codec, _ := s.wanted(desc.MediaType, mustCodec(desc.MediaType))
		l.mk = newMaking(nil, s.opt.Filters, l.seen(desc), place, codec, 0)
	}
	mk := l.mk
	mk.fetch, mk.Layer, mk.Sure, l.restarts = st.open, place, s.Traits.Ordered, mk.pass.Restarts()
	made, way, err := mk.Bring(ctx, s.dest)
	if err != nil {
		return false, err
	}
	if err := st.drain(); err != nil {
		return false, err
	}
	l.was = made.SourceDiffID
	if !made.Unchanged {
		l.result = result{desc: mk.Desc(made), diffID: made.DiffID, made: &made}
		s.copier.mu.Lock()
		s.report.LayersFiltered++
		s.copier.mu.Unlock()
		return true, s.finish(l, st, way)
	}
	if l.unchanged = &made; st.repeats() {
		return false, nil
	}
	s.again++ // its own bytes have gone by
	return true, l.remember(st)
}

// recode brings l compressed as want.
func (s *streaming) recode(ctx context.Context, l *streamed, st *stock, desc oci.Descriptor, place int, want layer.Codec, look *looker) (Way, error) {
	look.plain = true // Recode tells the diffID
	mk := newRecoding(look.over(st.open), desc, place, want)
	made, way, err := mk.Bring(ctx, s.dest)
	if err := cmp.Or(look.outcome(), err, st.drain()); err != nil {
		return way, err
	}
	l.was = made.SourceDiffID
	l.result = result{desc: mk.Desc(made), diffID: made.DiffID, made: look.made(l.made)}
	s.copier.mu.Lock()
	s.report.LayersRecoded++
	s.copier.mu.Unlock()
	return way, nil
}

// plain brings l as plain tar.
func (s *streaming) plain(ctx context.Context, l *streamed, st *stock, desc oci.Descriptor, place int, look *looker) (Way, error) {
	id := s.diffID(l)
	b := oci.Blob{Desc: oci.Descriptor{MediaType: layer.None.MediaType(desc.MediaType), Digest: id, Size: -1}, DiffID: id, Layer: place}
	open := look.over(st.open)
	b.Open = func(ctx context.Context) (io.ReadCloser, error) { return openPlain(ctx, open) }
	d, way, err := s.put(ctx, b)
	if err := cmp.Or(look.outcome(), err, st.drain()); err != nil {
		return way, err
	}
	l.was = d.Digest
	l.result = result{desc: d, diffID: d.Digest, made: look.made(l.made)}
	return way, nil
}

func openPlain(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) (io.ReadCloser, error) {
	stored, err := open(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := layer.Open(stored, layer.Options{})
	if err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	return plainReader{plain, stored}, nil
}

// keep brings l as it is.
func (s *streaming) keep(ctx context.Context, l *streamed, st *stock, desc oci.Descriptor, place int, look *looker) (Way, error) {
	b := oci.Blob{Desc: desc, DiffID: s.diffID(l), Layer: place, Open: look.over(st.open)}
	if desc.Digest == "" {
		b.Desc.Size = -1
	}
	d, way, err := s.put(ctx, b)
	if err := cmp.Or(look.outcome(), err, st.drain()); err != nil {
		return way, err
	}
	if desc.Digest, desc.Size = d.Digest, d.Size; d.Digest != st.desc.Digest {
		return way, fmt.Errorf("%w: the destination took %s for %s", oci.ErrDigestMismatch, d.Digest, st.desc.Digest)
	}
	switch {
	case l.unchanged != nil:
		l.was = l.unchanged.SourceDiffID
	case look.plain && !look.looks:
		l.was = d.Digest
	default:
		l.was = look.tar.DiffID
	}
	l.result = result{desc: desc, diffID: l.was, made: look.made(l.made)}
	return way, nil
}

// put brings b unless it is there. It reads it in any case.
func (s *streaming) put(ctx context.Context, b oci.Blob) (oci.Descriptor, Way, error) {
	there, err := false, error(nil)
	if b.Desc.Digest != "" {
		there, err = s.dest.Has(ctx, b.Desc)
	}
	if err != nil {
		return oci.Descriptor{}, 0, err
	}
	if there {
		return b.Desc, Present, readThrough(ctx, b)
	}
	d, err := s.dest.PutBlob(ctx, b)
	return d, Fetched, err
}

func readThrough(ctx context.Context, b oci.Blob) error {
	rc, err := b.Open(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	return errors.Join(err, rc.Close())
}

func mustCodec(mt oci.MediaType) layer.Codec {
	codec, _ := layer.CodecOf(mt)
	return codec
}
