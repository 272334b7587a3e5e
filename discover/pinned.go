package discover

import (
	"context"
	"iter"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// Pinned gives images with their digests: where the listing doesn't know one,
// the place is asked, one image after another. Of many, one that can't be asked
// for is given as it is, and Failure says why, so that it fails by itself.
func Pinned(images backend.Images) *Pins {
	return &Pins{Images: images, failed: map[oci.Ref]error{}}
}

// Pins are images with their digests.
type Pins struct {
	backend.Images

	mu     sync.Mutex
	failed map[oci.Ref]error
}

// Discover implements [oci.Discoverer].
func (p *Pins) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for item, err := range p.Images.Discover(ctx) {
			if err == nil && item.Desc.Digest == "" {
				if item.Desc, err = p.ask(ctx, item); err != nil && p.Bulk() {
					p.mu.Lock()
					p.failed[item.Ref] = err
					p.mu.Unlock()
					err = nil
				}
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// Failure gives why the digest of ref isn't known, nil if it is.
func (p *Pins) Failure(ref oci.Ref) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed[ref]
}

func (p *Pins) ask(ctx context.Context, item oci.Item) (oci.Descriptor, error) {
	source, err := p.Source(ctx, item)
	if err != nil {
		return item.Desc, err
	}
	d, err := source.Head(ctx, item.Ref.Reference())
	if err != nil {
		return item.Desc, err
	}
	// As in a listing, but for one thing: nobody can be asked for this digest.
	made := oci.IsSynthetic(d)
	if d.Annotations = nil; made {
		d.Annotations = map[string]string{oci.AnnotationSynthetic: "true"}
	}
	return d, nil
}

// Listing is that of the images.
func (p *Pins) Listing() oci.Listing {
	if l, ok := p.Images.(oci.Lister); ok {
		return l.Listing()
	}
	return oci.Listing{}
}
