package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/quaymaster/quaymaster/oci"
)

// Files are the files of a layout, wherever they are: in a folder, in an
// archive. Names are slash-separated, beneath the layout. A file that isn't
// there is an error matching [fs.ErrNotExist] or [oci.ErrNotFound], what is no
// regular file one matching [oci.ErrInvalid]. Implementations are safe for
// concurrent use.
type Files interface {
	// Index gives index.json as it is now. The result is shared: it must not be
	// changed.
	Index() (*Index, error)
	// ReadFile reads a file into memory. Over limit bytes the error matches
	// [oci.ErrTooLarge].
	ReadFile(name string, limit int64) ([]byte, error)
	// Size gives the bytes of a file.
	Size(name string) (int64, error)
	// OpenBlob opens the file name, which holds blob d. The reader fails with
	// [oci.ErrDigestMismatch] if the bytes are not d's, and ends with ctx. A size
	// other than d's is told at once, unless that is below 0.
	OpenBlob(ctx context.Context, name string, d oci.Descriptor) (io.ReadCloser, error)
}

// A Reader reads a layout. It is safe for concurrent use if Files is.
type Reader struct {
	Path string // of the folder or archive, for messages
	Files
}

// absent reports whether err of [Files] says that there is no such file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, oci.ErrNotFound) }

// missing lets an err that says so match [oci.ErrNotFound].
func missing(err error, name string) error {
	if absent(err) && !errors.Is(err, oci.ErrNotFound) {
		return fmt.Errorf("%w: there is no file %s", oci.ErrNotFound, name)
	}
	return err
}

// CheckMarker returns an error matching [oci.ErrUsage] if there is no file
// oci-layout, and else those of the function [CheckMarker].
func (r *Reader) CheckMarker() error {
	raw, err := r.ReadFile(MarkerFile, MaxMarkerSize)
	if absent(err) {
		return oci.Usage(fmt.Sprintf("%s is no OCI layout: it has no file %s", r.Path, MarkerFile))
	}
	if err != nil {
		return err
	}
	return CheckMarker(raw)
}

// Manifest reads the manifest or index d, whose media type and size may be
// unknown ("", 0), and checks it against its digest. Errors match
// [oci.ErrNotFound], [oci.ErrDigestMismatch], [oci.ErrTooLarge].
func (r *Reader) Manifest(d oci.Descriptor) (oci.Descriptor, []byte, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return d, nil, err
	}
	name := BlobPath(d.Digest)
	raw, err := r.ReadFile(name, oci.MaxManifestSize)
	if err != nil {
		return d, nil, missing(err, name)
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

// Open opens blob d. The reader verifies it and ends with ctx.
func (r *Reader) Open(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return nil, err
	}
	name := BlobPath(d.Digest)
	rc, err := r.OpenBlob(ctx, name, d)
	return rc, missing(err, name)
}

// Holds reports whether blob d is there with its size. A size of 0 or less is
// not compared.
func (r *Reader) Holds(d oci.Descriptor) (bool, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return false, err
	}
	size, err := r.Size(BlobPath(d.Digest))
	switch {
	case absent(err), errors.Is(err, oci.ErrInvalid):
		return false, nil
	case err != nil:
		return false, err
	}
	return d.Size <= 0 || size == d.Size, nil
}

// Stat fails unless the file of d is there and as long as d says. A foreign
// layer, which has URLs of its own, may be absent.
func (r *Reader) Stat(d oci.Descriptor) error {
	ok, err := r.Holds(d)
	if err != nil || ok || len(d.URLs) > 0 {
		return err
	}
	return fmt.Errorf("%w: there is no file %s of %d bytes", oci.ErrNotFound, BlobPath(d.Digest), d.Size)
}

// Fetch is Open with errors, those of reading too, that name layout and blob.
func (r *Reader) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	rc, err := r.Open(ctx, d)
	if err != nil {
		return nil, oci.Wrap(err, "read blob", r.Path, d)
	}
	return &named{rc, r.Path, d}, nil
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

// Checks makes it [oci.Checked].
func (n *named) Checks(d oci.Digest) bool { return oci.Checks(n.ReadCloser, d) }
