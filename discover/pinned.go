package discover

import (
	"context"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// Pinned gives images with their digests: where the listing doesn't know one,
// the place is asked, one image after another. Of many, one that can't be asked
// for is given as it is, so that it fails by itself.
func Pinned(images backend.Images) backend.Images { return &pinned{images} }

type pinned struct{ backend.Images }

func (p *pinned) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for item, err := range p.Images.Discover(ctx) {
			if err == nil && item.Desc.Digest == "" {
				if item.Desc, err = p.ask(ctx, item); p.Bulk() {
					err = nil
				}
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

func (p *pinned) ask(ctx context.Context, item oci.Item) (oci.Descriptor, error) {
	source, err := p.Source(ctx, item)
	if err != nil {
		return item.Desc, err
	}
	d, err := source.Head(ctx, item.Ref.Reference())
	if err != nil {
		return item.Desc, err
	}
	d.Annotations = nil // as in a listing
	return d, nil
}

// Listing is that of the images.
func (p *pinned) Listing() oci.Listing {
	if l, ok := p.Images.(oci.Lister); ok {
		return l.Listing()
	}
	return oci.Listing{}
}
