package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A destination is one image of a [target]. Its reads are those of the
// repository, "" being the name that the image will have.
type destination struct {
	*repo
	target *target
	log    *slog.Logger
	holder holder // of the manifest that may be the root

	mu       sync.Mutex
	sessions map[oci.Digest]*url.URL // of refused mounts, for the upload that follows
}

// Resolve implements [oci.Source]. What can't be seen isn't there: Quay
// answers 401 for a repository that is yet to be created. If it is there after
// all, the first write says why it can't be had.
func (d *destination) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	desc, raw, err := d.repo.Resolve(ctx, ref)
	return desc, raw, d.seen(err)
}

// Head implements [oci.Source], as Resolve. In a repository of Quay that nothing
// is known of yet it is a GET: only the body of a 404 says whether the tag is
// missing, or the repository.
func (d *destination) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	if d.target.isQuay() && !d.target.ledger.known(d.repo) {
		desc, _, err := d.Resolve(ctx, ref)
		return desc, err
	}
	desc, err := d.repo.Head(ctx, ref)
	return desc, d.seen(err)
}

// Has implements [oci.Destination]. In a repository that can't be seen there is nothing.
func (d *destination) Has(ctx context.Context, desc oci.Descriptor) (bool, error) {
	there, err := d.hasBlob(ctx, desc)
	if err = d.seen(err); errors.Is(err, oci.ErrNotFound) {
		return false, nil
	}
	return there, oci.Wrap(err, "look for blob", d.ref.Name(), desc)
}

// seen notes what the outcome of a read says of the repository, and turns
// "not for you" into "not there".
func (d *destination) seen(err error) error {
	switch e := status(err); {
	case err == nil:
		d.target.ledger.read(d.repo, true)
	case d.hides(err):
		d.target.ledger.read(d.repo, false)
		return &hiddenError{err}
	case e != nil && e.Status == http.StatusNotFound && e.Code != "":
		d.target.ledger.read(d.repo, e.Code != "NAME_UNKNOWN")
	}
	return err
}

// A hiddenError is a refusal that stands for "not found".
type hiddenError struct{ error }

func (e *hiddenError) Unwrap() []error { return []error{oci.ErrNotFound, e.error} }

// hasBlob asks for one blob. [oci.ErrNotFound] and a refusal are its errors too.
func (d *destination) hasBlob(ctx context.Context, desc oci.Descriptor) (bool, error) {
	if err := oci.ValidDigest(desc.Digest); err != nil {
		return false, err
	}
	resp, err := d.do(ctx, http.MethodHead, d.url("/blobs/"+string(desc.Digest)), d.pull())
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, answered(resp)
	}
	finish(resp)
	return true, nil
}

// WillWrite implements [oci.Foreseer]. Quay creates a repository when push is
// asked for, with whatever else: before it is known whether it was there, that
// is left to the first write, which looks.
func (d *destination) WillWrite() {
	if !d.target.isQuay() || d.target.ledger.known(d.repo) {
		d.expect(d.push())
	}
}

// Verify implements [oci.Destination]: the name has root's digest, asked by HEAD;
// with full every manifest and blob under it is read and hashed as well.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	got, err := d.repo.Head(ctx, d.name(root))
	if err == nil && got.Digest != root.Digest {
		err = fmt.Errorf("%w: the registry took %s and now has %s under the name", oci.ErrDigestMismatch, root.Digest, got.Digest)
	}
	if err == nil && full {
		err = d.readBack(ctx, root, map[oci.Digest]bool{})
	}
	return oci.Wrap(err, "verify", d.label(d.name(root)), oci.Descriptor{})
}

// readBack reads everything under manifest m that is not in done.
func (d *destination) readBack(ctx context.Context, m oci.Descriptor, done map[oci.Digest]bool) error {
	if done[m.Digest] {
		return nil
	}
	done[m.Digest] = true
	desc, raw, err := d.repo.Resolve(ctx, string(m.Digest))
	if err != nil {
		return err
	}
	parsed, err := oci.ParseManifest(desc.MediaType, raw)
	if err != nil {
		return err
	}
	for _, child := range parsed.Manifests {
		if err := d.readBack(ctx, child, done); err != nil {
			return err
		}
	}
	for _, blob := range parsed.Blobs() {
		if done[blob.Digest] {
			continue
		}
		done[blob.Digest] = true
		if err := d.readBlob(ctx, blob); err != nil {
			return err
		}
	}
	return nil
}

func (d *destination) readBlob(ctx context.Context, blob oci.Descriptor) error {
	rc, err := d.Fetch(ctx, blob)
	if errors.Is(err, oci.ErrNotFound) && len(blob.URLs) > 0 {
		return nil // a foreign layer, which a registry needn't have
	}
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	return err
}
