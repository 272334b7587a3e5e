package ociarchive

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// files are the [layout.Files] of what an archive is to be: blobs that were put
// go before those that are there.
type files struct{ place *place }

// find gives the section of a blob that was put; else the files of the archive
// that is there, nil if there is none.
func (f *files) find(name string) (put, bool, layout.Files) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	b, ok := f.place.blobs[name]
	return b, ok, f.place.files
}

func none(name string) error { return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist} }

func (f *files) Index() (*layout.Index, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	return f.place.index, nil
}

func (f *files) ReadFile(name string, limit int64) ([]byte, error) {
	b, ok, old := f.find(name)
	switch {
	case !ok && old == nil:
		return nil, none(name)
	case !ok:
		return old.ReadFile(name, limit)
	case b.desc.Size > limit:
		return nil, fmt.Errorf("%s: %w: over %d bytes", name, oci.ErrTooLarge, limit)
	}
	r, err := b.section.Open()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (f *files) Size(name string) (int64, error) {
	b, ok, old := f.find(name)
	switch {
	case !ok && old == nil:
		return 0, none(name)
	case !ok:
		return old.Size(name)
	}
	return b.desc.Size, nil
}

func (f *files) OpenBlob(ctx context.Context, name string, d oci.Descriptor) (io.ReadCloser, error) {
	b, ok, old := f.find(name)
	switch {
	case !ok && old == nil:
		return nil, none(name)
	case !ok:
		return old.OpenBlob(ctx, name, d)
	case d.Size >= 0 && b.desc.Size != d.Size:
		return nil, fmt.Errorf("%s: %w: %d bytes, its descriptor says %d", name, oci.ErrDigestMismatch, b.desc.Size, d.Size)
	}
	r, err := b.section.Open()
	if err != nil {
		return nil, err
	}
	return oci.Verify(safepath.Within(ctx, io.NopCloser(r)), d), nil
}
