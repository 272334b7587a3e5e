package ocidir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes the image that is to be called name. What is put and not
// committed stays in the layout as blobs that no name leads to: another image
// may count on them, and the next run finds them.
type destination struct {
	*place
	name string
}

// Head answers for "" what the name means now, if all of it is there: manifests
// whole, each config and layer with its size. Otherwise the image is to be
// written, and the error matches [oci.ErrNotFound].
func (d *destination) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	desc, _, err := d.Resolve(ctx, ref)
	if err == nil && ref == "" {
		if err = d.walk(ctx, desc, func(b oci.Descriptor, _ bool) error { return d.stat(b) }); damaged(err) {
			err = fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err)
		}
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "look up "+d.name+" in", d.path, oci.Descriptor{})
	}
	return desc, nil
}

// Resolve gives the manifest that the name means now for "", or a digest's.
func (d *destination) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	fail := func(err error) (oci.Descriptor, []byte, error) {
		return oci.Descriptor{}, nil, oci.Wrap(err, "look up "+d.name+" in", d.path, oci.Descriptor{})
	}
	if ref != "" {
		return (&reader{folder: d.folder}).Resolve(ctx, ref)
	}
	index, err := d.readIndex()
	if errors.Is(err, fs.ErrNotExist) {
		return fail(oci.ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	named, ok := index.Get(d.name)
	if !ok {
		return fail(oci.ErrNotFound)
	}
	full, raw, err := d.manifest(named)
	if damaged(err) {
		err = fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err)
	}
	if err != nil {
		return fail(err)
	}
	return oci.Descriptor{MediaType: full.MediaType, Digest: full.Digest, Size: full.Size}, raw, nil
}

func (d *destination) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	return d.fetch(ctx, desc)
}

// Has compares the size too: a shorter file is what a dead run of another tool
// left.
func (d *destination) Has(_ context.Context, desc oci.Descriptor) (bool, error) {
	ok, err := d.has(desc)
	return ok, oci.Wrap(err, "look up blob", d.path, desc)
}

func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	desc, err := d.stage.Put(ctx, b, layout.BlobPath)
	return desc, oci.Wrap(err, "write blob", d.path, b.Desc)
}

func (d *destination) PutManifest(ctx context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d.PutBlob(ctx, oci.Blob{Desc: desc, Layer: -1, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}})
}

// Commit lets the name mean root. Commits that run at the same time share one
// write of index.json.
func (d *destination) Commit(ctx context.Context, root, _ oci.Descriptor) error {
	err := d.stat(oci.Descriptor{Digest: root.Digest, Size: root.Size})
	if err == nil {
		err = d.names.Do(ctx, naming{d.name, root})
	}
	return oci.Wrap(err, "name "+d.name+" in", d.path, root)
}

// Verify reads index.json, manifests and configs again and compares each
// blob's size; with full it hashes every blob, each once in a run.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	return oci.Wrap(d.verify(ctx, root, full), "verify "+d.name+" in", d.path, root)
}

func (d *destination) verify(ctx context.Context, root oci.Descriptor, full bool) error {
	index, err := d.readIndex()
	if err != nil {
		return safepath.Missing(err)
	}
	named, ok := index.Get(d.name)
	if !ok {
		return fmt.Errorf("%w in %s", oci.ErrNotFound, layout.IndexFile)
	}
	if named.Digest != root.Digest {
		return fmt.Errorf("%w: %s says %s; another process has changed it", oci.ErrDigestMismatch, layout.IndexFile, named.Digest)
	}
	return d.walk(ctx, named, func(b oci.Descriptor, isConfig bool) error {
		if err := d.stat(b); err != nil || !full && !isConfig {
			return err
		}
		return d.rehash(ctx, b)
	})
}

// rehash reads blob b back, unless this run has done so.
func (d *destination) rehash(ctx context.Context, b oci.Descriptor) error {
	if _, done := d.whole.Load(b.Digest); done {
		return nil
	}
	rc, err := d.open(ctx, b)
	if errors.Is(err, oci.ErrNotFound) && len(b.URLs) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return fmt.Errorf("%s: %w; delete that file and run again", layout.BlobPath(b.Digest), err)
	}
	d.whole.Store(b.Digest, true)
	return nil
}

// Close does nothing: what was put stays for the next run.
func (d *destination) Close() error { return nil }
