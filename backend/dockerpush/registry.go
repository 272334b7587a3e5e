package dockerpush

import (
	"context"
	"io"

	"cuelabs.dev/go/oci/ociregistry"

	"github.com/quaymaster/quaymaster/oci"
)

// A registry is a store as the daemon sees it: it can be written to and asked what
// it has. What isn't here is not supported, reading above all.
type registry struct {
	*ociregistry.Funcs
	store *store
}

func (r registry) ResolveBlob(_ context.Context, _ string, digest ociregistry.Digest) (oci.Descriptor, error) {
	size, ok := r.store.blob(digest)
	if !ok {
		return oci.Descriptor{}, ociregistry.ErrBlobUnknown
	}
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: digest, Size: size}, nil
}

func (r registry) ResolveManifest(_ context.Context, _ string, digest ociregistry.Digest) (oci.Descriptor, error) {
	m, ok := r.store.manifest(digest)
	if !ok {
		return oci.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	return m.desc, nil
}

func (r registry) ResolveTag(context.Context, string, string) (oci.Descriptor, error) {
	m, ok := r.store.root()
	if !ok {
		return oci.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	return m.desc, nil
}

// PushBlob takes a blob in one request.
func (r registry) PushBlob(_ context.Context, _ string, d oci.Descriptor, content io.Reader) (oci.Descriptor, error) {
	u, err := r.store.begin()
	if err != nil {
		return d, err
	}
	defer func() { _ = u.Cancel() }() // which after Commit does nothing
	if _, err := io.Copy(u, content); err != nil {
		return d, err
	}
	return u.Commit(d.Digest)
}

func (r registry) PushBlobChunked(context.Context, string, int) (ociregistry.BlobWriter, error) {
	u, err := r.store.begin()
	if err != nil {
		return nil, err
	}
	return u, nil
}

// PushBlobChunkedResume goes on with an upload. Daemons send one piece, without
// saying where it belongs, and then close the upload; an offset of 0 means that.
func (r registry) PushBlobChunkedResume(_ context.Context, _, id string, offset int64, _ int) (ociregistry.BlobWriter, error) {
	u, err := r.store.resume(id)
	if err != nil {
		return nil, err
	}
	if offset > 0 && offset != u.Size() {
		return nil, ociregistry.ErrRangeInvalid
	}
	return u, nil
}

// PushManifest takes the root under whatever tag, and children by their digest.
func (r registry) PushManifest(_ context.Context, _, tag string, raw []byte, mediaType string) (oci.Descriptor, error) {
	return r.store.putManifest(raw, mediaType, tag != "")
}
