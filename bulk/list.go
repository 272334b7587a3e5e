package bulk

import (
	"context"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// List gives the images of src in listing order. With sizes, Bytes of those
// whose listing doesn't know it is read from their manifests, opt.Images at
// once; of opt only that and Events matter.
//
// An error ends the sequence: a listing is whole, or it says that it isn't. It
// matches [oci.ErrIncomplete] if images may be missing.
func List(ctx context.Context, src backend.Images, sizes bool, opt Options) iter.Seq2[oci.Item, error] {
	if !sizes {
		return func(yield func(oci.Item, error) bool) {
			for item, err := range src.Discover(ctx) {
				if err != nil {
					yield(oci.Item{}, listingError(src, err))
					return
				}
				if !yield(item, nil) {
					return
				}
			}
		}
	}
	return func(yield func(oci.Item, error) bool) {
		for item, err := range ordered(ctx, src, opt, withSize) {
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// withSize fills in item's Bytes, and what the manifest says besides.
func withSize(ctx context.Context, src oci.Source, item oci.Item) (oci.Item, error) {
	if item.Bytes >= 0 && item.Desc.Digest != "" {
		return item, nil
	}
	d, n, err := pipeline.Size(ctx, src, item)
	if err != nil {
		return item, err
	}
	item.Desc, item.Bytes, item.IsIndex = d, n, oci.IsIndexType(d.MediaType)
	return item, nil
}
