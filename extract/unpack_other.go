//go:build !linux && !darwin

package extract

import (
	"archive/tar"
	"fmt"
	"io"
	"runtime"

	"github.com/quaymaster/quaymaster/oci"
)

// umoci's extractor isn't for these systems.
type unpacker struct{}

func newUnpacker(bool, bool) *unpacker { return nil }

func (*unpacker) entry(string, *tar.Header, io.Reader) error {
	return fmt.Errorf("%w on %s: to extract layers", oci.ErrUnsupported, runtime.GOOS)
}
