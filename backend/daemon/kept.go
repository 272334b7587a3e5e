package daemon

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// kept is an image that was saved into a file without a name.
type kept struct {
	file   *tarfile.File
	source oci.Source // of "", the image
}

// keep saves the image, the first time it is called.
func (i *image) keep(ctx context.Context) (*kept, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.kept != nil {
		return i.kept, nil
	}
	is, err := inspect(ctx, i.client, i.name)
	if err != nil {
		return nil, err
	}
	body, err := is.save(ctx, i.client)
	if err != nil {
		return nil, i.wrap(err, "save image", oci.Descriptor{})
	}
	defer body.Close()
	file, err := tarfile.Read(ctx, body, i.String())
	if err != nil {
		if c := context.Cause(ctx); c != nil {
			return nil, i.wrap(c, "save image", oci.Descriptor{})
		}
		return nil, i.wrap(body.said(cut(err)), "save image", oci.Descriptor{})
	}
	src, err := i.read(file, is)
	if err != nil {
		_ = file.Close() // the file has no name
		return nil, i.wrap(err, "read image", oci.Descriptor{})
	}
	i.kept = &kept{file, src}
	return i.kept, nil
}

// read gives the image in file that is describes. What docker's older store calls
// an index was made up for the file, so that is not asked where the ID is a
// config's.
func (i *image) read(file *tarfile.File, is *inspection) (oci.Source, error) {
	if is.kept() {
		return i.layout(file, *is.Descriptor)
	}
	a, err := dockersave.Read(file)
	if err != nil {
		return nil, err
	}
	for _, img := range a.Images {
		if d, _, err := img.Config(); err != nil {
			return nil, err
		} else if d.Digest == is.ID {
			return img, nil
		}
	}
	if file.Has(layout.IndexFile) { // the ID may be a manifest's
		return i.layout(file, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: is.ID})
	}
	return nil, fmt.Errorf("the daemon gave %d images, but not %s: %w", len(a.Images), is.ID, oci.ErrInvalid)
}

// layout gives the image d, or where that is an index its one child, in the
// layout that file is.
func (i *image) layout(file *tarfile.File, d oci.Descriptor) (oci.Source, error) {
	r := &layout.Reader{Path: i.String(), Files: layout.Archive(file)}
	items, _, err := r.Items()
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		if item.Desc.Digest == d.Digest || len(items) == 1 && oci.IsIndexType(d.MediaType) {
			return (&layout.Images{Reader: r}).Source(context.Background(), item)
		}
	}
	return nil, fmt.Errorf("the daemon gave %d images, but not %s: %w", len(items), d.Digest, oci.ErrInvalid)
}

// forget gives the disk back.
func (i *image) forget() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.kept == nil {
		return nil
	}
	file := i.kept.file
	i.kept = nil
	return file.Close()
}
