package pipeline

import (
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// outgrowsDocker reports whether the image was docker's manifest and gets a zstd
// layer, for which docker's schema 2 has no media type that all readers know:
// containerd reads "…diff.tar.zstd", containers/image refuses to write it. Both
// write OCI manifests then.
func outgrowsDocker(m *oci.Manifest, layers []result) bool {
	if m.MediaType != oci.MediaTypeDockerManifest {
		return false
	}
	for i, l := range layers {
		was, _ := layer.CodecOf(m.Layers[i].MediaType)
		if is, _ := layer.CodecOf(l.desc.MediaType); is == layer.Zstd && was != layer.Zstd {
			return true
		}
	}
	return false
}

// toOCI gives docker's manifest or list raw as OCI's: other media types, and
// nothing else.
func toOCI(raw []byte) ([]byte, error) {
	var m struct {
		Config    json.RawMessage
		Layers    json.RawMessage
		Manifests json.RawMessage
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	mt := oci.MediaTypeManifest
	var changes []jsonedit.Change
	if m.Manifests != nil {
		mt = oci.MediaTypeIndex
	} else {
		config, err := jsonedit.Set(m.Config, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(ocispec.MediaTypeImageConfig)})
		if err != nil {
			return nil, err
		}
		changes = append(changes, jsonedit.Change{Key: "config", Value: config})
		layers, err := editList(m.Layers, func(element json.RawMessage) (json.RawMessage, error) {
			var d oci.Descriptor
			if err := json.Unmarshal(element, &d); err != nil {
				return nil, err
			}
			return jsonedit.Set(element, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(ociLayer(d.MediaType))})
		})
		if err != nil {
			return nil, err
		}
		changes = append(changes, jsonedit.Change{Key: "layers", Value: layers})
	}
	return jsonedit.Set(raw, append(changes, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(mt)})...)
}

// ociLayer gives the OCI's media type for docker's layer type mt; others stay.
func ociLayer(mt oci.MediaType) oci.MediaType {
	codec, ok := layer.CodecOf(mt)
	switch {
	case !ok:
		return mt
	case strings.HasPrefix(mt, "application/vnd.docker.image.rootfs.foreign.diff.tar"):
		return codec.MediaType(ocispec.MediaTypeImageLayerNonDistributable) //nolint:staticcheck // deprecated, and what docker's is
	case strings.HasPrefix(mt, "application/vnd.docker.image.rootfs.diff.tar"):
		return codec.MediaType(ocispec.MediaTypeImageLayer)
	}
	return mt
}
