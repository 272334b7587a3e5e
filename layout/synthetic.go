package layout

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// Synthetic makes up the manifest that a place which keeps none (docker save's
// archives, folders, daemons) answers with: an OCI image of config and of layers
// as plain tar, lowest first, so that a layer's Digest is its diffID and its Size
// counts the bytes of the tar. Only digests and sizes of what is given are used;
// the same ones give the same bytes.
//
// The descriptor has [oci.AnnotationSynthetic]. A digest that is empty or
// malformed, and a size below 0, are errors matching [oci.ErrInvalid]; a manifest
// over 4 MiB matches [oci.ErrTooLarge].
func Synthetic(config oci.Descriptor, layers []oci.Descriptor) (oci.Descriptor, []byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: oci.MediaTypeManifest,
		Config:    oci.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config.Digest, Size: config.Size},
		Layers:    make([]oci.Descriptor, len(layers)), // [] and not null
	}
	for i, d := range layers {
		m.Layers[i] = oci.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d.Digest, Size: d.Size}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("made-up manifest: %w", err)
	}
	if _, err := oci.ParseManifest(oci.MediaTypeManifest, raw); err != nil { // digests, sizes, and how much there is of it
		return oci.Descriptor{}, nil, err
	}
	return oci.Descriptor{
		MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
		Annotations: map[string]string{oci.AnnotationSynthetic: "true"},
	}, raw, nil
}
