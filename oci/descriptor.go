package oci

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The nouns are the official ones of the OCI.
type (
	// Descriptor is media type, digest and size of some content.
	Descriptor = ocispec.Descriptor
	// Platform is an os/architecture[/variant].
	Platform = ocispec.Platform
	// Digest is "algorithm:hex" of bytes as they are stored.
	Digest = digest.Digest
	// MediaType is a media type without parameters.
	MediaType = string
)

// Media types of manifests and indexes, OCI's and docker's.
const (
	MediaTypeManifest       MediaType = ocispec.MediaTypeImageManifest
	MediaTypeIndex          MediaType = ocispec.MediaTypeImageIndex
	MediaTypeDockerManifest MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     MediaType = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1  MediaType = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSigned1  MediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// MaxManifestSize is the most bytes of a manifest that are read: 4 MiB, the
// limit that the distribution specification asks registries to accept.
const MaxManifestSize = 4 << 20

// IsIndexType reports whether mt is an OCI index or a docker manifest list.
func IsIndexType(mt MediaType) bool {
	return mt == MediaTypeIndex || mt == MediaTypeDockerList
}

// IsManifestType reports whether mt is a manifest or an index that this
// module reads.
func IsManifestType(mt MediaType) bool {
	return mt == MediaTypeManifest || mt == MediaTypeDockerManifest || IsIndexType(mt)
}

// IsSynthetic reports whether the place that gave d made up the manifest that d
// is of ([AnnotationSynthetic]).
func IsSynthetic(d Descriptor) bool { return d.Annotations[AnnotationSynthetic] == "true" }
