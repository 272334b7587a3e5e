package pipeline

import (
	"context"
	"errors"

	"github.com/quaymaster/quaymaster/oci"
)

// lookUp gives what the destination's name has now, nil if nothing.
func (c *copier) lookUp(ctx context.Context) (*oci.Descriptor, error) {
	d, err := c.Dest.Head(ctx, "")
	if errors.Is(err, oci.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, oci.Wrap(err, "look up", c.report.Destination, oci.Descriptor{})
	}
	return &d, nil
}

// sameAsListed reports whether there is what the source's name has, where its
// digest alone can tell: nothing is to be chosen of it, or nothing was. It costs
// no request if the listing gave the digest, else a HEAD.
func (c *copier) sameAsListed(ctx context.Context, there oci.Descriptor) (bool, error) {
	if c.opt.Filters.Looks || (c.filters != "" || oci.IsSynthetic(c.Item.Desc)) && !c.Traits.Raw || c.recodes() || there.Annotations[oci.AnnotationFilters] != c.filters {
		return false, nil
	}
	whole := len(c.opt.Platforms) == 0 && c.Traits.Index
	listed := c.Item.Desc.Digest
	switch {
	case listed == "" && whole:
		d, err := c.Source.Head(ctx, c.Item.Ref.Reference())
		if err != nil {
			return false, oci.Wrap(err, "look up", c.report.Reference, oci.Descriptor{})
		}
		c.learnt(d)
		return d.Digest == there.Digest && (c.Traits.Raw || !oci.IsSynthetic(d)), nil
	case listed == "":
		return false, nil
	}
	chosen := !whole && (there.Platform != nil && !c.wants(*there.Platform) || oci.IsIndexType(there.MediaType) && c.Traits.Index)
	return there.Digest == listed && !chosen, nil
}

// wants reports whether a place without indexes would take p of one now. What
// it took under that name is what [pick] gives again, since the exact name goes
// first.
func (c *copier) wants(p oci.Platform) bool {
	want := linuxAMD64
	switch {
	case c.Traits.Index:
		return false
	case len(c.opt.Platforms) > 0:
		want = c.opt.Platforms[0] // such a place takes no more
	}
	return PlatformName(&p) == PlatformName(&want)
}

// isAt reports whether there is what p would write, as far as that is known
// before filters run. A place that keeps no manifest says which source it was
// written from, and with which filters.
func (c *copier) isAt(there oci.Descriptor, p plan) bool {
	if there.Annotations[oci.AnnotationFilters] != c.filters || c.filters != "" && !c.Traits.Raw {
		return false
	}
	if c.recodes() || oci.IsSynthetic(p.root.Descriptor) && !c.Traits.Raw {
		return false // it is compressed otherwise, or was made up
	}
	if there.Digest == p.root.Digest || p.root.m != nil && p.root.m.Config != nil && c.hasConfig(there, p.root.m.Config.Digest) {
		return true
	}
	return c.Traits.Raw && there.Digest == p.from.Digest && there.Platform != nil && p.from.Platform != nil &&
		PlatformName(there.Platform) == PlatformName(p.from.Platform)
}

// origin is what a place that keeps no manifest is to know root by. A manifest
// that was made up takes the sizes of all layers, which some sources tell only
// once all of the image was read; its config they tell before.
func origin(root node) oci.Descriptor {
	d := root.Descriptor
	if oci.IsSynthetic(d) && root.m.Config != nil {
		d.Digest = root.m.Config.Digest
	}
	return d
}

// hasConfig reports whether there, in a place that takes plain layers, is what
// was made of the image with config: what such a place keeps ([origin]), or a
// daemon's image ID. Filters were compared before.
func (c *copier) hasConfig(there oci.Descriptor, config oci.Digest) bool {
	return c.Traits.Raw && config != "" && there.Digest == config
}

// isThere reports whether there is root, which an image came to: where no
// manifest is kept, an image with root's config.
func (c *copier) isThere(there oci.Descriptor, root node) bool {
	if c.Traits.Raw {
		return root.m.Config != nil && there.Annotations[oci.AnnotationConfig] == string(root.m.Config.Digest)
	}
	return there.Digest == root.Digest
}

// skip leaves the image as it is, and with [VerifyFull] reads it.
func (c *copier) skip(ctx context.Context, there oci.Descriptor) error {
	c.report.Status = oci.StatusSkipped
	if c.opt.Verify == VerifyFull && !c.opt.DryRun {
		return c.verify(ctx, there)
	}
	return nil
}
