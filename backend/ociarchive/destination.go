package ociarchive

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes the image that is to be called Name. It answers from what
// the archive is to be.
type destination struct {
	layout.Named
	place *place
}

func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	desc, err := d.place.put(ctx, b)
	return desc, oci.Wrap(err, "write blob", d.Path, b.Desc)
}

func (p *place) put(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if err := p.begin(); err != nil {
		return oci.Descriptor{}, err
	}
	var section *spool.Section
	desc, err := stage.Attempt(ctx, b, func(r io.Reader) (err error) {
		section, err = p.spool.Add(ctx, r)
		return err
	})
	if err != nil {
		return desc, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name := layout.BlobPath(desc.Digest)
	if _, ok := p.blobs[name]; ok { // somebody was faster, and may be read
		section.Free()
		return desc, nil
	}
	p.blobs[name] = put{desc, section}
	return desc, nil
}

// begin makes the folder, before the first write.
func (p *place) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	p.begun = true
	return nil
}

func (d *destination) PutManifest(ctx context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d.PutBlob(ctx, oci.Blob{Desc: desc, Layer: oci.NoLayer, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}})
}

// Commit lets the name mean root, from Finish on.
func (d *destination) Commit(_ context.Context, root, _ oci.Descriptor) error {
	err := d.Stat(oci.Descriptor{Digest: root.Digest, Size: root.Size})
	if err == nil {
		err = d.place.commit(naming{name: d.Name, desc: root})
	}
	return oci.Wrap(err, "name "+d.Name+" in", d.Path, root)
}

func (p *place) commit(n naming) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.index == nil {
		return fs.ErrClosed
	}
	index := p.index.Clone()
	if _, err := index.Set(n.name, n.desc); err != nil {
		return err
	}
	p.index = index
	p.names = append(slices.DeleteFunc(p.names, func(o naming) bool { return o.name == n.name }), n)
	return nil
}

// Verify compares what is to be in the archive. What this run has committed is
// read back by Finish, from the archive, as thoroughly as it was asked for here.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	if d.place.verifyLater(d.Name, full) {
		full = false
	}
	return d.Named.Verify(ctx, root, full)
}

func (p *place) verifyLater(name string, full bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.names {
		if n := &p.names[i]; n.name == name {
			n.check, n.full = true, n.full || full
			return true
		}
	}
	return false
}

// Close does nothing: what was put and isn't committed is in nobody's way.
func (d *destination) Close() error { return nil }
