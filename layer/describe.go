package layer

import (
	"maps"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// bound are the prefixes of annotations that speak of a layer's own bytes: lazy
// pullers would look for those in the new ones.
var bound = []string{
	"containerd.io/snapshot/", "containerd.io/uncompressed", "io.containers.estargz.",
	"io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.",
}

// IsBound reports whether the annotation key of a layer's descriptor speaks of
// the layer's own bytes, so that it is no longer true of what a [Pass] made.
func IsBound(key string) bool {
	for _, p := range bound {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// describe gives the descriptor of what a pass made of d.
func describe(d oci.Descriptor, c Codec, blob *sum) oci.Descriptor {
	out := oci.Descriptor{MediaType: c.MediaType(d.MediaType), Digest: blob.digest(), Size: blob.n, ArtifactType: d.ArtifactType, Platform: d.Platform}
	out.Annotations = maps.Clone(d.Annotations)
	maps.DeleteFunc(out.Annotations, func(k, _ string) bool { return IsBound(k) })
	if len(out.Annotations) == 0 {
		out.Annotations = nil
	}
	return out
}
