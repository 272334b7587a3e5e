package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/quaymaster/quaymaster/oci"
)

// DeleteTag takes the tag away, and nothing else. It returns an error matching
// [oci.ErrNotFound] if there is none, and [oci.ErrUnsupported] where the registry
// deletes manifests by their digest only, or nothing.
func (r *Repository) DeleteTag(ctx context.Context, tag string) error {
	if !oci.ValidTag(tag) {
		return oci.Wrap(fmt.Errorf("%q is no tag: %w", tag, oci.ErrInvalid), "delete tag", r.ref.Name(), oci.Descriptor{})
	}
	return oci.Wrap(r.delete(ctx, tag), "delete tag", r.label(tag), oci.Descriptor{})
}

// DeleteManifest deletes the manifest d, with all tags that mean it. Errors are
// those of [Repository.DeleteTag].
func (r *Repository) DeleteManifest(ctx context.Context, d oci.Digest) error {
	if err := oci.ValidDigest(d); err != nil {
		return oci.Wrap(err, "delete manifest", r.ref.Name(), oci.Descriptor{})
	}
	return oci.Wrap(r.delete(ctx, string(d)), "delete manifest", r.label(string(d)), oci.Descriptor{})
}

// delete asks for push: Quay has no other scope for it. Registries that want
// another say so in their challenge.
func (r *repo) delete(ctx context.Context, ref string) error {
	resp, err := r.do(ctx, http.MethodDelete, r.url("/manifests/"+ref), r.push())
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		finish(resp)
		return nil
	}
	if err = answered(resp); byDigestOnly(err) {
		err = fmt.Errorf("%w: the registry doesn't delete that: %w", oci.ErrUnsupported, err)
	}
	return err
}

// byDigestOnly reports whether err is the answer of a registry that takes no tag
// here, or that deletes nothing at all. A Quay that is read-only for now answers
// 405 DENIED; that is no inability.
func byDigestOnly(err error) bool {
	e := status(err)
	switch {
	case e == nil:
		return false
	case e.Status == http.StatusBadRequest:
		return e.Code == "UNSUPPORTED" || e.Code == "DIGEST_INVALID" || e.Code == "TAG_INVALID"
	}
	return e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed && e.Code != "DENIED"
}
