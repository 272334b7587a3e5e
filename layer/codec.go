package layer

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Codec is how a layer's tar is compressed.
type Codec string

// The codecs of the image specification.
const (
	Gzip Codec = "gzip"
	Zstd Codec = "zstd"
	None Codec = "none"
)

// CodecOf gives the codec that media type mt promises: OCI's and docker's layer
// types, also the deprecated ones for layers that are not distributed. false:
// mt is no layer of tar.
func CodecOf(mt oci.MediaType) (Codec, bool) {
	switch {
	case strings.HasSuffix(mt, ".tar+gzip"), strings.HasSuffix(mt, ".tar.gzip"):
		return Gzip, true
	case strings.HasSuffix(mt, ".tar+zstd"), strings.HasSuffix(mt, ".tar.zstd"):
		return Zstd, true
	case strings.HasSuffix(mt, ".tar"):
		return None, true
	}
	return "", false
}

// sniffSize is how many bytes Sniff wants to see.
const sniffSize = 10

// Sniff tells the codec by the first bytes of a blob, of which it wants 10. What
// is known to be neither of ours nor a tar is an error matching
// [oci.ErrUnsupported]; anything else that has no magic is taken for a tar.
func Sniff(head []byte) (Codec, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd, nil
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return Zstd, nil // a skippable frame in front
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "", fmt.Errorf("layer compressed with xz: %w", oci.ErrUnsupported)
	case len(head) >= sniffSize && bytes.HasPrefix(head, []byte("BZh")) && string(head[4:10]) == "1AY&SY":
		return "", fmt.Errorf("layer compressed with bzip2: %w", oci.ErrUnsupported)
	}
	return None, nil
}
