package registry

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// A Repository is one repository whose tags are looked at and changed. It reads as
// a source does: what the caller may not see is [oci.ErrDenied], and only what the
// registry says is not there is [oci.ErrNotFound]. It is safe for concurrent use.
type Repository struct{ source }

var (
	_ oci.Source         = (*Repository)(nil)
	_ oci.TagLister      = (*Repository)(nil)
	_ oci.ReferrerLister = (*Repository)(nil)
	_ oci.TagLister      = source{}
	_ oci.ReferrerLister = source{}
)

// OpenRepository opens the repository of ref. No request is made yet. It returns
// an error matching [oci.ErrUsage] if ref names no repository of a registry.
func OpenRepository(ref oci.Ref, env backend.Env) (*Repository, error) {
	r, err := newRepo(ref, env)
	if err != nil {
		return nil, err
	}
	return &Repository{source{r}}, nil
}

// Put stores raw under ref, a tag or raw's digest, byte for byte and at once, as
// media type mt to the letter. It returns raw's descriptor, and an error matching
// [oci.ErrDigestMismatch] if ref is another digest, or the registry says so.
//
// If raw has a subject, and the registry doesn't know who refers to it, that is
// entered into the tag that the distribution specification has for it.
func (r *Repository) Put(ctx context.Context, ref string, mt oci.MediaType, raw []byte) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	err := func() error {
		ref, err := r.reference(ref)
		switch {
		case err != nil:
			return err
		case !oci.IsManifestType(mt):
			return fmt.Errorf("%q is no type of manifests: %w", mt, oci.ErrUnsupported)
		case len(raw) > oci.MaxManifestSize:
			return fmt.Errorf("manifest of %d bytes: %w (limit %d)", len(raw), oci.ErrTooLarge, oci.MaxManifestSize)
		case oci.IsDigest(ref):
			if desc.Digest = oci.Digest(ref).Algorithm().FromBytes(raw); string(desc.Digest) != ref {
				return fmt.Errorf("%w: the manifest is %s", oci.ErrDigestMismatch, desc.Digest)
			}
		}
		return r.putManifest(ctx, &manifest{desc, raw}, ref)
	}()
	return desc, oci.Wrap(err, "put manifest", r.label(ref), oci.Descriptor{})
}
