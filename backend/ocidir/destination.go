package ocidir

import (
	"bytes"
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes the image that is to be called Name. What is put and not
// committed stays in the layout as blobs that no name leads to: another image
// may count on them, and the next run finds them.
type destination struct {
	layout.Named
	place *place
}

func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	desc, err := d.place.stage.Put(ctx, b, layout.BlobPath)
	return desc, oci.Wrap(err, "write blob", d.Path, b.Desc)
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
	err := d.Stat(oci.Descriptor{Digest: root.Digest, Size: root.Size})
	if err == nil {
		err = d.place.names.Do(ctx, naming{d.Name, root})
	}
	return oci.Wrap(err, "name "+d.Name+" in", d.Path, root)
}

// Close does nothing: what was put stays for the next run.
func (d *destination) Close() error { return nil }
