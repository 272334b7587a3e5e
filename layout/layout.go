package layout

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// Files of a layout.
const (
	MarkerFile = ocispec.ImageLayoutFile    // "oci-layout"
	IndexFile  = ocispec.ImageIndexFile     // "index.json"
	BlobFolder = ocispec.ImageBlobsDir      // "blobs"
	version    = ocispec.ImageLayoutVersion // "1.0.0", the only one there is
)

// Limits of what is read into memory.
const (
	MaxMarkerSize = 64 << 10
	MaxIndexSize  = 64 << 20 // some 150,000 images
)

// Marker is the content of the file oci-layout.
func Marker() []byte { return []byte(`{"imageLayoutVersion":"` + version + `"}`) }

// CheckMarker reads the file oci-layout. Another version than 1.0.0 is an error
// matching [oci.ErrUnsupported], anything else [oci.ErrInvalid].
func CheckMarker(raw []byte) error {
	var m ocispec.ImageLayout
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w: %w", MarkerFile, oci.ErrInvalid, err)
	}
	if m.Version != version {
		return fmt.Errorf("%s: layout version %q: %w; known is %s", MarkerFile, m.Version, oci.ErrUnsupported, version)
	}
	return nil
}

// BlobPath gives the slash-separated path of blob d beneath the layout. d must
// have passed [oci.ValidDigest].
func BlobPath(d oci.Digest) string {
	return BlobFolder + "/" + d.Algorithm().String() + "/" + d.Encoded()
}
