package daemon

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// document reads a JSON file that begins with head, and checks it if it is named
// by its digest. The config is given as soon
// as it is known to be the image's.
func (s *stream) document(h *tar.Header, named oci.Digest, head []byte) error {
	if h.Size > maxDocument {
		return nil // too large for a config or a manifest
	}
	raw := make([]byte, h.Size)
	if _, err := io.ReadFull(s.tar, raw[copy(raw, head):]); err != nil {
		return s.cause(err)
	}
	d := digest.FromBytes(raw)
	if named != "" && named.Algorithm() == d.Algorithm() && named != d {
		return fmt.Errorf("%.200q: %w: its digest is %s", h.Name, oci.ErrDigestMismatch, d)
	}
	if s.config != nil && s.config.Digest == d {
		return nil
	}
	if err := s.add(raw, d); err != nil || s.config != nil {
		return err
	}
	if c := s.choose(false); c != nil {
		return s.giveConfig(c)
	}
	return nil
}

func (s *stream) giveConfig(c *document) error {
	kept := *c
	s.config = &kept
	return s.give(kept.blob())
}

func (d *document) blob() oci.Blob {
	return oci.Blob{Desc: d.Descriptor, Layer: oci.NoLayer, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(d.raw)), nil
	}}
}

// end gives what is left to give, and checks that it is all of the image.
func (s *stream) end() error {
	if c := context.Cause(s.ctx); c != nil {
		return c
	}
	if s.config == nil {
		c := s.choose(true)
		if c == nil {
			return s.cause(fmt.Errorf("%w: the stream has no config of this image (%d come near)", oci.ErrInvalid, len(s.configs)))
		}
		if err := s.giveConfig(c); err != nil {
			return err
		}
	}
	if d := s.missing(); d != "" {
		return s.cause(fmt.Errorf("%w: the stream has no layer %s", oci.ErrInvalid, d))
	}
	if m := s.manifest(); m != nil {
		return s.give(m.blob())
	}
	return nil
}

// layer gives the layer h, which begins with head.
func (s *stream) layer(h *tar.Header, named oci.Digest, head []byte) error {
	codec, err := layer.Sniff(head)
	if err != nil {
		return fmt.Errorf("%.200q: %w", h.Name, err)
	}
	b := oci.Blob{Desc: oci.Descriptor{MediaType: codec.MediaType(ocispec.MediaTypeImageLayer), Digest: named, Size: h.Size}, Layer: oci.UnknownLayer}
	if i := slices.Index(s.order, named); i >= 0 {
		b.DiffID, b.Layer = named, i
	} else if m := s.kept(); m != nil {
		if i := slices.IndexFunc(m.manifest.Layers, func(d oci.Descriptor) bool { return d.Digest == named }); i >= 0 {
			b.DiffID, b.Layer, b.Desc.MediaType = s.order[i], i, m.manifest.Layers[i].MediaType
		}
	}
	if named != "" && s.blobs[named] || b.DiffID != "" && s.layers[b.DiffID] {
		return nil // it came before
	}
	if named != "" {
		s.blobs[named] = true
	}
	if b.DiffID != "" {
		s.layers[b.DiffID] = true
	} else {
		s.vague++
	}
	b.Open = s.opener(b.Desc, codec, head)
	return s.give(b)
}

// opener gives the Open of the layer that the stream stands in, behind head.
func (s *stream) opener(d oci.Descriptor, codec layer.Codec, head []byte) func(context.Context) (io.ReadCloser, error) {
	turn, opened := s.turn, false
	return func(ctx context.Context) (io.ReadCloser, error) {
		if opened || turn != s.turn {
			return nil, s.image.wrap(errors.New("a part of the stream can be read once, while it passes"), "read layer", d)
		}
		opened = true
		p := &part{stream: s, ctx: ctx, turn: turn, desc: d, rest: io.MultiReader(bytes.NewReader(head), s.tar)}
		switch {
		case d.Digest != "":
			return &checked{oci.Verify(p, d), s.image, d}, nil
		case codec == layer.None:
			return &checked{&matcher{part: p, hash: digest.Canonical.Digester()}, s.image, d}, nil
		}
		return &checked{p, s.image, d}, nil
	}
}

// A part is a layer that is read out of the stream.
type part struct {
	*stream
	ctx  context.Context
	turn int
	desc oci.Descriptor
	rest io.Reader
}

func (p *part) Read(b []byte) (int, error) {
	if err := context.Cause(p.ctx); err != nil {
		return 0, err
	}
	if p.turn != p.stream.turn {
		return 0, errors.New("the stream is past this part")
	}
	n, err := p.rest.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = p.cause(err)
	}
	return n, err
}

func (p *part) Close() error { return nil }

// A matcher holds a layer without a name against the diffIDs of the image.
// Its failure comes in place of the last bytes.
type matcher struct {
	*part
	hash digest.Digester
	n    int64
	err  error
}

func (m *matcher) Read(b []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.part.Read(b)
	_, _ = m.hash.Hash().Write(b[:n]) // a hash never fails
	m.n += int64(n)
	if m.n == m.desc.Size && n > 0 {
		d := m.hash.Digest()
		if _, ok := m.layers[d]; !ok {
			m.err = fmt.Errorf("%w: a layer with diffID %s is none of this image", oci.ErrDigestMismatch, d)
			return 0, m.err
		}
		if !m.layers[d] {
			m.layers[d] = true
			m.vague--
		}
	}
	m.err = err
	return n, err
}

// checked lets errors name daemon, image and layer.
type checked struct {
	io.ReadCloser
	image *image
	desc  oci.Descriptor
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.image.wrap(err, "read layer", c.desc)
	}
	return n, err
}

// Checks makes it [oci.Checked].
func (c *checked) Checks(d oci.Digest) bool { return oci.Checks(c.ReadCloser, d) }
