package ocidir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A folder reads a layout. It is safe for concurrent use.
type folder struct {
	path  string
	root  func() (*os.Root, error)
	index safepath.View[*layout.Index]
}

func newFolder(path string, root func() (*os.Root, error)) *folder {
	return &folder{path: path, root: root, index: safepath.View[*layout.Index]{
		Name: layout.IndexFile, Limit: layout.MaxIndexSize, Parse: layout.ParseIndex,
	}}
}

// readIndex gives index.json as it is now. The error matches [fs.ErrNotExist]
// if there is none. The result is shared: it must not be changed.
func (f *folder) readIndex() (*layout.Index, error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	return f.index.Get(root)
}

// manifest reads the manifest or index d, whose media type and size may be
// unknown ("", 0), and checks it against its digest. Errors match
// [oci.ErrNotFound], [oci.ErrDigestMismatch], [oci.ErrTooLarge].
func (f *folder) manifest(d oci.Descriptor) (oci.Descriptor, []byte, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return d, nil, err
	}
	root, err := f.root()
	if err != nil {
		return d, nil, safepath.Missing(err)
	}
	name := layout.BlobPath(d.Digest)
	raw, _, err := safepath.ReadFile(root, name, oci.MaxManifestSize)
	if err != nil {
		return d, nil, safepath.Missing(err)
	}
	if d.Size > 0 && int64(len(raw)) != d.Size {
		return d, nil, fmt.Errorf("%s: %w: %d bytes, its descriptor says %d", name, oci.ErrDigestMismatch, len(raw), d.Size)
	}
	if d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return d, nil, fmt.Errorf("%s: %w: the bytes are others", name, oci.ErrDigestMismatch)
	}
	d.Size = int64(len(raw))
	if d.MediaType == "" {
		if d.MediaType, err = mediaType(raw); err != nil {
			return d, nil, fmt.Errorf("%s: %w: %w", name, oci.ErrInvalid, err)
		}
	}
	return d, raw, nil
}

// mediaType reads what a manifest says of itself.
func mediaType(raw []byte) (oci.MediaType, error) {
	var m struct {
		MediaType oci.MediaType   `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", err
	}
	switch {
	case m.MediaType != "":
		return m.MediaType, nil
	case m.Manifests != nil:
		return oci.MediaTypeIndex, nil
	}
	return oci.MediaTypeManifest, nil
}

// open opens blob d. The reader verifies it and ends with ctx.
func (f *folder) open(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return nil, err
	}
	root, err := f.root()
	if err != nil {
		return nil, safepath.Missing(err)
	}
	return safepath.OpenBlob(ctx, root, layout.BlobPath(d.Digest), d)
}

// has reports whether blob d is there with its size. A size of 0 or less is
// not compared.
func (f *folder) has(d oci.Descriptor) (bool, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return false, err
	}
	root, err := f.root()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fi, err := safepath.Stat(root, layout.BlobPath(d.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, oci.ErrInvalid):
		return false, nil
	case err != nil:
		return false, err
	}
	return d.Size <= 0 || fi.Size() == d.Size, nil
}
