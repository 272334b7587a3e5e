package layout

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// Archive gives the files of a layout in a tar archive, at its top. index.json
// is read once.
func Archive(f *tarfile.File) Files {
	a := &archive{File: f}
	a.index = sync.OnceValues(func() (*Index, error) {
		m, err := f.Lookup(IndexFile)
		if err != nil {
			return nil, err
		}
		if m.Copies > 1 { // other readers may take another one
			return nil, fmt.Errorf("%s: %w: it is there %d times", IndexFile, oci.ErrInvalid, m.Copies)
		}
		raw, err := f.ReadFile(IndexFile, MaxIndexSize)
		if err != nil {
			return nil, err
		}
		return ParseIndex(raw)
	})
	return a
}

type archive struct {
	*tarfile.File
	index func() (*Index, error)
}

func (a *archive) Index() (*Index, error) { return a.index() }

func (a *archive) Size(name string) (int64, error) {
	m, err := a.Lookup(name)
	return m.Size, err
}

func (a *archive) OpenBlob(ctx context.Context, name string, d oci.Descriptor) (io.ReadCloser, error) {
	m, err := a.Lookup(name)
	if err != nil {
		return nil, err
	}
	if d.Size >= 0 && m.Size != d.Size {
		return nil, fmt.Errorf("%s: %w: %d bytes, its descriptor says %d", name, oci.ErrDigestMismatch, m.Size, d.Size)
	}
	return oci.Verify(safepath.Within(ctx, io.NopCloser(m.Open())), d), nil
}
