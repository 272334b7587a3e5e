package bulk

import (
	"context"
	"iter"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/check"
)

// Check gives what checker finds of all images of src, in listing order;
// opt.Images of them are worked on at once, and of opt only Events matters
// besides. Layers that images share are read once.
//
// An error says that an image could not be read, and comes with what was found
// of it before; the others go on. An error of the listing comes last; it matches
// [oci.ErrIncomplete] if images may be missing.
func Check(ctx context.Context, src backend.Images, checker *check.Checker, opt Options) iter.Seq2[check.Report, error] {
	return ordered(ctx, src, opt, checker.Image)
}
