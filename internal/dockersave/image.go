package dockersave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// An Image is one of an archive. It is an [oci.Source] of that image. Its
// methods' errors name the archive.
type Image struct {
	Entry
	// Names are what RepoTags name; empty for an image without a name.
	Names []oci.Ref

	archive *Archive
	load    func() (*parts, error)
}

// parts are what an image is made of.
type parts struct {
	*config
	layers []*stored
}

func (i *Image) read() (*parts, error) {
	p, err := i.parts()
	return p, i.archive.wrap(err, "read image in", oci.Descriptor{})
}

func (i *Image) parts() (*parts, error) {
	c, err := i.archive.config(i.Entry.Config)
	if err != nil {
		return nil, err
	}
	p := &parts{config: c}
	if len(p.ids) != len(i.Entry.Layers) {
		return nil, fmt.Errorf("%.200q: %w: it has %d diff_ids, and %s lists %d layers", i.Entry.Config, oci.ErrInvalid, len(p.ids), ManifestFile, len(i.Entry.Layers))
	}
	for _, name := range i.Entry.Layers {
		l, err := i.archive.layer(name)
		if err != nil {
			return nil, err
		}
		p.layers = append(p.layers, l)
	}
	return p, nil
}

// Config gives the image's config: digest, size, bytes. A digest in the
// member's name that isn't that of the bytes is told by [Image.Renamed].
func (i *Image) Config() (oci.Descriptor, []byte, error) {
	p, err := i.load()
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	raw, err := i.archive.file.ReadFile(i.Entry.Config, maxConfig)
	if err == nil && digest.FromBytes(raw) != p.desc.Digest {
		err = i.archive.wrap(fmt.Errorf("%w: it was changed meanwhile", oci.ErrDigestMismatch), "read config in", p.desc)
	}
	return p.desc, raw, err
}

// ID gives the digest of the image's config, by which docker knows it.
func (i *Image) ID() (oci.Digest, error) {
	p, err := i.load()
	if err != nil {
		return "", err
	}
	return p.desc.Digest, nil
}

// Renamed reports whether the config is named by another digest than its own:
// some program has written it anew, or it is damaged.
func (i *Image) Renamed() bool {
	p, err := i.load()
	named := digestOf(i.Entry.Config)
	return err == nil && named != "" && named != p.desc.Digest
}

// Manifest gives the manifest that is made up for the image. Layers that are
// compressed are read for it, once.
func (i *Image) Manifest(ctx context.Context) (oci.Descriptor, []byte, error) {
	p, err := i.load()
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	layers := make([]oci.Descriptor, len(p.layers))
	for n, l := range p.layers {
		size, err := l.plainSize(ctx, p.ids[n])
		if err != nil {
			return oci.Descriptor{}, nil, i.archive.wrap(err, "read layer in", oci.Descriptor{Digest: p.ids[n]})
		}
		layers[n] = oci.Descriptor{Digest: p.ids[n], Size: size}
	}
	d, raw, err := layout.Synthetic(p.desc, layers)
	return d, raw, i.archive.wrap(err, "read image in", oci.Descriptor{})
}

// Known is the descriptor of Manifest if no layer is to be read for it.
func (i *Image) Known() (oci.Descriptor, bool) {
	p, err := i.load()
	if err != nil || slices.ContainsFunc(p.layers, func(l *stored) bool { return !l.known() }) {
		return oci.Descriptor{}, false
	}
	d, _, err := i.Manifest(context.Background())
	return d, err == nil
}

// Bytes sums the layers as they are stored; -1 of an image that can't be read.
func (i *Image) Bytes() int64 {
	p, err := i.load()
	if err != nil {
		return -1
	}
	var n int64
	for _, l := range p.layers {
		n += l.member.Size
	}
	return n
}

// Resolve takes "", one of the image's names, whole or the tag alone, and the
// digests of the config and of the made-up manifest.
func (i *Image) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	d, raw, err := i.Manifest(ctx)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	p, err := i.load()
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	named := slices.ContainsFunc(i.Names, func(r oci.Ref) bool { return r.Tag == ref || r.String() == ref })
	if ref == "" || ref == string(d.Digest) || ref == string(p.desc.Digest) || named {
		return d, raw, nil
	}
	return oci.Descriptor{}, nil, i.archive.wrap(fmt.Errorf("%w: it is no name of this image", oci.ErrNotFound), fmt.Sprintf("look up %.200q in", ref), oci.Descriptor{})
}

// Head is Resolve without the bytes.
func (i *Image) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := i.Resolve(ctx, ref)
	return d, err
}

// Describe gives the config, and the made-up manifest's descriptor if no layer
// is to be read for it.
func (i *Image) Describe(context.Context, string) (oci.Descriptor, []byte, error) {
	config, raw, err := i.Config()
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	d, ok := i.Known()
	if !ok {
		d = oci.Descriptor{MediaType: oci.MediaTypeManifest, Annotations: map[string]string{oci.AnnotationSynthetic: "true"}}
	}
	d.Annotations[oci.AnnotationConfig] = string(config.Digest)
	return d, raw, nil
}

// Fetch opens the config, or a layer by its diffID as plain tar.
func (i *Image) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	rc, err := i.open(ctx, d)
	if err != nil {
		return nil, i.archive.wrap(err, "read blob in", d)
	}
	return &told{rc, i.archive, d}, nil
}

func (i *Image) open(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return nil, err
	}
	p, err := i.load()
	if err != nil {
		return nil, err
	}
	if n := slices.Index(p.ids, d.Digest); n >= 0 {
		return p.layers[n].open(ctx, d)
	}
	if d.Digest == p.desc.Digest {
		m, err := i.archive.file.Lookup(i.Entry.Config)
		if err != nil {
			return nil, err
		}
		return oci.Verify(io.NopCloser(m.Open()), d), nil
	}
	return nil, fmt.Errorf("%w: it is no part of this image", oci.ErrNotFound)
}

// told lets errors of reading name archive and blob.
type told struct {
	io.ReadCloser
	archive *Archive
	desc    oci.Descriptor
}

func (t *told) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = t.archive.wrap(err, "read blob in", t.desc)
	}
	return n, err
}

// Checks makes it [oci.Checked].
func (t *told) Checks(d oci.Digest) bool { return oci.Checks(t.ReadCloser, d) }
