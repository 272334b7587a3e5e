package filetree

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// maxName is the most bytes of a name or link target: twice what Linux takes.
// Without a bound a small layer could fill the memory of whoever keeps its
// names, and keep whoever looks at its directories busy.
const maxName = 8 << 10

// Walk is [layer.Walk] over layer d of src. A name over 8 KiB matches
// [oci.ErrTooLarge]. Nothing that visit saw counts unless Walk succeeds.
func Walk(ctx context.Context, src oci.Source, d oci.Descriptor, opt layer.Options, visit func(*oci.Entry) error) (layer.Tar, error) {
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return layer.Tar{}, err
	}
	defer rc.Close()
	return layer.Walk(ctx, rc, opt, func(e *oci.Entry) error {
		if n := max(len(e.Header.Name), len(e.Header.Linkname)); n > maxName {
			return fmt.Errorf("layer: %w: a name of %d bytes", oci.ErrTooLarge, n)
		}
		return visit(e)
	})
}
