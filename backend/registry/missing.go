package registry

import (
	"context"
	"net/http"
	"slices"

	"github.com/quaymaster/quaymaster/oci"
)

// absent are the codes that say that a manifest isn't there: the specification's
// for it and for its repository, Quay's for a tag that was, Harbor's for both.
var absent = []string{"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "TAG_EXPIRED", "NOT_FOUND"}

// Absent reports whether err is a registry's definite answer that a manifest, or
// its repository, isn't there: a 404 with a code that says so, and not any page
// that something in between may have made. The answer to HEAD has no code.
func Absent(err error) bool {
	e := status(err)
	return e != nil && e.Status == http.StatusNotFound && slices.Contains(absent, e.Code)
}

// Missing asks for ref as one who may push, and reports whether the registry then
// says that it isn't there, as [Absent] means it. On a Quay that creates the
// repository. Whoever may not push gets an error matching [oci.ErrDenied].
func (r *Repository) Missing(ctx context.Context, ref string) (bool, error) {
	ref, err := r.reference(ref)
	if err != nil {
		return false, oci.Wrap(err, "look for manifest", r.ref.Name(), oci.Descriptor{})
	}
	resp, err := r.manifestRequest(ctx, http.MethodGet, ref, r.push())
	switch {
	case err == nil:
		finish(resp)
	case Absent(err):
		return true, nil
	}
	return false, oci.Wrap(err, "look for manifest", r.label(ref), oci.Descriptor{})
}
