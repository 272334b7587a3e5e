// Package companion finds what goes along with an image without being part of it:
// cosign's signatures, attestations and SBOMs, which are tags of their own
// ("sha256-<hex>.sig"), and referrers, which are manifests with a subject.
//
// [ParseTag] and [Tags] are the grammar of cosign's tags and make no request.
// [Find] looks in one repository, and at what it found for what is about that; a
// [Finder] does so for many images of one repository with one listing.
//
// Nothing is copied, deleted or verified here: a companion is what is called so.
// Whether a signature is good is for who has the keys.
package companion
