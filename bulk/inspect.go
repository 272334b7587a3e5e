package bulk

import (
	"context"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// Inspect gives the metadata of all images of src, in listing order; opt.Images
// of them are read at once, and of opt only Platforms and Events matter besides.
//
// An error names its image, and the others go on. An error of the listing comes
// last; it matches [oci.ErrIncomplete] if images may be missing.
func Inspect(ctx context.Context, src backend.Images, opt Options) iter.Seq2[pipeline.Info, error] {
	return ordered(ctx, src, opt, func(ctx context.Context, source oci.Source, item oci.Item) (pipeline.Info, error) {
		return pipeline.Inspect(ctx, source, item, opt.Platforms)
	})
}
