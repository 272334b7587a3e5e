package bulk

import (
	"context"
	"errors"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
	"github.com/quaymaster/quaymaster/search"
)

// Searched is what was found in one image of a listing: a result for each of its
// platforms, one where it is no index.
type Searched struct {
	Ref     oci.Ref
	Index   bool // it is an index, also where one platform was chosen
	Results []search.Result
}

// Search gives what s finds in the images of src, in listing order; opt.Images
// of them are searched at once, and of opt only Platforms and Events matter
// besides.
//
// An error names its image and layers, and comes with what was found in the
// rest of it. An error of the listing comes last; it matches
// [oci.ErrIncomplete] if images may be missing.
func Search(ctx context.Context, src backend.Images, s *search.Searcher, opt Options) iter.Seq2[Searched, error] {
	return ordered(ctx, src, opt, func(ctx context.Context, source oci.Source, item oci.Item) (Searched, error) {
		found := Searched{Ref: item.Ref}
		images, err := pipeline.Images(ctx, source, item, opt.Platforms)
		errs := []error{err}
		for _, img := range images {
			found.Index = img.Platform != nil
			r := s.Image(ctx, source, nameOf(item, img), img)
			errs = append(errs, r.Failed...)
			found.Results = append(found.Results, r)
		}
		return found, errors.Join(errs...)
	})
}

// nameOf names one image of item: HOST/REPOSITORY:TAG, and the platform in an
// index.
func nameOf(item oci.Item, img filetree.Image) string {
	name := item.Ref.Tagged()
	if name == "" {
		name = string(item.Desc.Digest)
	}
	if img.Platform != nil {
		name += " (" + pipeline.PlatformName(img.Platform) + ")"
	}
	return name
}
