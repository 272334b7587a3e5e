package backend

import (
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// What a place that keeps manifests has in its Options under CompressionOption.
const (
	CompressionOption = "compression"
	CompressionHelp   = "of a destination, how layers are stored: gzip, zstd, none, or keep (default): as the source's manifest has them, gzip where it has none"
)

// Compression gives the [oci.Traits] Compression of the target u: its option
// compression, or else env's. Any other word than keep, gzip, zstd and none is an
// error matching [oci.ErrUsage].
func Compression(u URI, env Env) (string, error) {
	c, where := u.Option(CompressionOption), u.String()+": option compression="
	if c == "" {
		c, where = env.Compression, "compression "
	}
	switch low := strings.ToLower(c); low {
	case "", "keep", "gzip", "zstd", "none":
		return low, nil
	}
	return "", oci.Usage(fmt.Sprintf("%s%s: write keep, gzip, zstd or none", where, c))
}

// NoCompression returns an error matching [oci.ErrUsage] if the source u has the
// option compression: that is for destinations.
func NoCompression(u URI) error {
	if c := u.Option(CompressionOption); c != "" {
		return oci.Usage(fmt.Sprintf("%s: option compression=%s is for destinations; a source has the layers as they are", u, c))
	}
	return nil
}
