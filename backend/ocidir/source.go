package ocidir

import (
	"context"
	"errors"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// A reader is the layout as the source of one image.
type reader struct {
	*folder
	item oci.Item
}

// Resolve takes a digest of any manifest in the layout, the image's tag, "" for
// the image itself, and names in index.json.
func (r *reader) Resolve(_ context.Context, ref string) (oci.Descriptor, []byte, error) {
	d, raw, err := r.resolve(ref)
	if err != nil {
		return oci.Descriptor{}, nil, oci.Wrap(err, "read manifest", r.path, d)
	}
	return d, raw, nil
}

func (r *reader) resolve(ref string) (oci.Descriptor, []byte, error) {
	d := oci.Descriptor{Digest: oci.Digest(ref)}
	switch {
	case ref == "" || ref == r.item.Ref.Tag || ref == string(r.item.Desc.Digest):
		d = r.item.Desc
	case oci.IsDigest(ref): // a child: its own bytes say what it is
	default:
		items, _, err := r.items()
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		item, err := pick(items, ref)
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		d = item.Desc
	}
	full, raw, err := r.manifest(d)
	return oci.Descriptor{MediaType: full.MediaType, Digest: full.Digest, Size: full.Size}, raw, err
}

func (r *reader) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := r.Resolve(ctx, ref)
	return d, err
}

func (r *reader) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	return r.fetch(ctx, d)
}

// fetch is open with errors, those of reading too, that name layout and blob.
func (f *folder) fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	rc, err := f.open(ctx, d)
	if err != nil {
		return nil, oci.Wrap(err, "read blob", f.path, d)
	}
	return &named{rc, f.path, d}, nil
}

type named struct {
	io.ReadCloser
	path string
	desc oci.Descriptor
}

func (n *named) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = oci.Wrap(err, "read blob", n.path, n.desc)
	}
	return k, err
}
