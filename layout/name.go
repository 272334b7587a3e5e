package layout

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// RefAnnotation is where index.json has the name of an image.
const RefAnnotation = ocispec.AnnotationRefName

// containerdName is where containerd, and docker save since version 25, have
// the full reference; their ref name is the bare tag.
const containerdName = "io.containerd.image.name"

// RefName gives what ref is called in index.json: its full reference, without
// the digest where it has a tag; of a reference that is only a tag, the tag.
func RefName(ref oci.Ref) string { return ref.Tagged() }

// ParseName reads a name in index.json or behind a path: a whole reference, one
// without host, a bare tag, or a digest. false: it is none of them.
func ParseName(name string) (oci.Ref, bool) {
	if oci.ValidDigest(oci.Digest(name)) == nil {
		return oci.Ref{Digest: oci.Digest(name)}, true
	}
	if ref, err := oci.ParseRef(name, ""); err == nil {
		return ref, true
	}
	if oci.ValidTag(name) {
		return oci.Ref{Tag: name}, true
	}
	const host = "localhost" // only to get past the parser
	ref, err := oci.ParseRef(name, host)
	ref.Registry = ""
	return ref, err == nil
}

// Ref gives the reference of the index.json entry d. A name that is no
// reference is never used as one: then, and where there is no name, the
// reference is the digest alone. unreadable is that name, for a warning.
func Ref(d oci.Descriptor) (ref oci.Ref, unreadable string) {
	name := d.Annotations[RefAnnotation]
	if full, ok := ParseName(d.Annotations[containerdName]); ok && full.Repository != "" {
		if name == "" || name == full.Tag {
			return full, ""
		}
	}
	if name == "" {
		return oci.Ref{Digest: d.Digest}, ""
	}
	if ref, ok := ParseName(name); ok {
		return ref, ""
	}
	return oci.Ref{Digest: d.Digest}, name
}
