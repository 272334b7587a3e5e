package pipeline

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// Size reads what item's name means and the sum of its layers as they are
// stored, in bytes. Of an index these are the distinct layers of all its
// images, from their manifests. Errors are those of [Copy].
func Size(ctx context.Context, src oci.Source, item oci.Item) (oci.Descriptor, int64, error) {
	c := &copier{Image: Image{Item: item, Source: src}}
	c.report.Reference = label(item)
	root, err := c.resolve(ctx, item.Desc.Digest)
	if err != nil {
		return oci.Descriptor{}, 0, &oci.Error{Op: "size", Ref: c.report.Reference, Err: err}
	}
	layers := map[oci.Digest]int64{}
	if err := c.size(ctx, root, layers, map[oci.Digest]bool{}, 0); err != nil {
		return oci.Descriptor{}, 0, &oci.Error{Op: "size", Ref: c.report.Reference, Err: err}
	}
	var sum int64
	for _, n := range layers {
		sum += n
	}
	return root.Descriptor, sum, nil
}

// size enters the layers of n and of what is below it, each manifest once.
func (c *copier) size(ctx context.Context, n node, layers map[oci.Digest]int64, seen map[oci.Digest]bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxDepth)
	}
	for _, d := range n.m.Layers {
		layers[d.Digest] = d.Size
	}
	for _, d := range n.m.Manifests {
		if seen[d.Digest] || !isManifest(d) {
			continue
		}
		seen[d.Digest] = true
		child, err := c.child(ctx, d)
		if err != nil {
			return err
		}
		if err := c.size(ctx, child, layers, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}
