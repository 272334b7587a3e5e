package discover

import (
	"context"
	"fmt"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// AtLeast guards against a listing that shrank. It reads the whole of images
// before it gives the first; if there are fewer than n, it gives none and an
// error matching [oci.ErrRefused]. An error of the listing comes alone too:
// what it lacks could be the missing ones. n below 1 guards nothing.
func AtLeast(images backend.Images, n int) backend.Images {
	if n < 1 {
		return images
	}
	return &atLeast{images, n}
}

type atLeast struct {
	backend.Images
	n int
}

// Discover gives the images if they are enough.
func (a *atLeast) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		var items []oci.Item
		for item, err := range a.Images.Discover(ctx) {
			if err != nil {
				yield(oci.Item{}, err)
				return
			}
			items = append(items, item)
		}
		if len(items) < a.n {
			yield(oci.Item{}, oci.Refuse(fmt.Sprintf("found %d of at least %d expected images; nothing was changed", len(items), a.n)))
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Listing is the guarded listing's.
func (a *atLeast) Listing() oci.Listing {
	if l, ok := a.Images.(oci.Lister); ok {
		return l.Listing()
	}
	return oci.Listing{}
}
