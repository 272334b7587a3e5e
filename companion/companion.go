package companion

import (
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Companion is one manifest that is about another.
type Companion struct {
	Subject oci.Digest     // what it is about
	Tag     string         // of cosign; "" for a referrer
	Desc    oci.Descriptor // of the companion; of a referrer as the place lists it
	Kind    Kind
}

// A Kind says what a companion is.
type Kind string

// The kinds. Referrer is anything that has a subject.
const (
	Signature   Kind = "signature"
	Attestation Kind = "attestation"
	SBOM        Kind = "sbom"
	Referrer    Kind = "referrer"
)

// suffixes are the ends of cosign's tags, in the order in which companions are
// looked for.
var suffixes = []struct {
	text string
	kind Kind
}{
	{".sig", Signature}, {".att", Attestation}, {".sbom", SBOM},
}

// stem begins cosign's tags: a digest whose colon is a dash, as a tag can't have one.
const stem = "sha256-"

// ParseTag gives the digest that cosign's tag is about and what it holds; false
// if it is no tag of cosign's. Only lower case is: a digest has one form.
//
// Source: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md (tag-based discovery)
func ParseTag(tag string) (oci.Digest, Kind, bool) {
	rest, ok := strings.CutPrefix(tag, stem)
	if !ok {
		return "", "", false
	}
	for _, s := range suffixes {
		if hex, ok := strings.CutSuffix(rest, s.text); ok {
			d := oci.Digest("sha256:" + hex)
			return d, s.kind, oci.ValidDigest(d) == nil
		}
	}
	return "", "", false
}

// Tags gives the tags that cosign's companions of d have: its signature's, its
// attestations', its SBOM's. Of what is no sha256 digest there are none.
func Tags(d oci.Digest) []string {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || oci.ValidDigest(d) != nil {
		return nil
	}
	tags := make([]string, len(suffixes))
	for i, s := range suffixes {
		tags[i] = stem + hex + s.text
	}
	return tags
}
