package ocidir

import (
	"context"
	"io"
	"os"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A folder is the [layout.Files] of a folder that others may write to.
type folder struct {
	root  func() (*os.Root, error)
	index safepath.View[*layout.Index]
}

func newFolder(root func() (*os.Root, error)) *folder {
	return &folder{root: root, index: safepath.View[*layout.Index]{
		Name: layout.IndexFile, Limit: layout.MaxIndexSize, Parse: layout.ParseIndex,
	}}
}

func (f *folder) Index() (*layout.Index, error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	return f.index.Get(root)
}

func (f *folder) ReadFile(name string, limit int64) ([]byte, error) {
	root, err := f.root()
	if err != nil {
		return nil, safepath.Missing(err)
	}
	raw, _, err := safepath.ReadFile(root, name, limit)
	return raw, err
}

func (f *folder) Size(name string) (int64, error) {
	root, err := f.root()
	if err != nil {
		return 0, err
	}
	fi, err := safepath.Stat(root, name)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (f *folder) OpenBlob(ctx context.Context, name string, d oci.Descriptor) (io.ReadCloser, error) {
	root, err := f.root()
	if err != nil {
		return nil, safepath.Missing(err)
	}
	return safepath.OpenBlob(ctx, root, name, d)
}
