package pipeline

import (
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// wantedCodec says how a target with traits is to store a layer that a source
// has as stored, and whether that is another codec than it has now. Synthetic
// says that no manifest describes the layer, so that there is nothing to keep.
//
// What is no layer of tar stays as it is: codec is "" then, and change false. A
// target of plain tar (Raw) wants that, whatever its Compression says.
func wantedCodec(traits oci.Traits, stored oci.MediaType, synthetic bool) (codec layer.Codec, change bool) {
	now, ok := layer.CodecOf(stored)
	if !ok {
		return "", false
	}
	switch {
	case traits.Raw:
		codec = layer.None
	case !keeps(traits):
		codec = layer.Codec(traits.Compression)
	case synthetic:
		codec = layer.Gzip
	default:
		codec = now
	}
	return codec, codec != now
}

// keeps reports whether a target takes the layers that a manifest describes as
// they are.
func keeps(traits oci.Traits) bool { return traits.Compression == "" || traits.Compression == "keep" }
