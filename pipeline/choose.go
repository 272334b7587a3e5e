package pipeline

import (
	"context"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A plan says what is written for an image.
type plan struct {
	root      node           // m is nil if it wasn't read yet
	from      oci.Descriptor // the source's manifest ([origin]); Platform is set if root is one of an index
	platforms []string       // that were chosen of an index
	leftOut   []string
}

// plan chooses what of root goes to the destination.
func (c *copier) plan(ctx context.Context, root node) (plan, error) {
	want := c.opt.Platforms
	if len(want) > 1 && !c.Traits.Index {
		return plan{}, oci.Usage(fmt.Sprintf("the destination takes one platform, and %d were chosen", len(want)))
	}
	p := plan{root: root, from: origin(root)}
	switch {
	case !root.m.IsIndex():
		return p, c.checkPlatform(ctx, root, want)
	case len(want) == 0 && c.Traits.Index:
		return p, nil
	case len(want) > 1:
		return several(root, want)
	case len(want) == 0:
		want = []oci.Platform{linuxAMD64}
	}
	for depth := 0; p.root.m.IsIndex(); depth++ { // an index may hold an index for the platform
		if depth == maxDepth {
			return plan{}, fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxDepth)
		}
		entries := p.root.m.Manifests
		d, err := pick(entries, want[0])
		if err != nil {
			return plan{}, err
		}
		p.platforms = []string{PlatformName(d.Platform)}
		p.leftOut = append(p.leftOut, others(entries, []oci.Descriptor{d})...)
		if p.from.Platform = d.Platform; d.Platform == nil {
			p.from.Platform = &want[0]
		}
		if c.Traits.Index || !oci.IsIndexType(d.MediaType) {
			p.root = node{Descriptor: d}
			break
		}
		if p.root, err = c.child(ctx, d); err != nil {
			return plan{}, err
		}
	}
	return p, nil
}

// several makes the index of the chosen entries of root.
func several(root node, want []oci.Platform) (plan, error) {
	chosen, err := choose(root.m.Manifests, want)
	if err != nil {
		return plan{}, err
	}
	kept := map[oci.Digest]bool{}
	for _, d := range chosen {
		kept[d.Digest] = true
	}
	p := plan{root: root, from: root.Descriptor, platforms: names(chosen), leftOut: others(root.m.Manifests, chosen)}
	if len(chosen) == len(root.m.Manifests) {
		return p, nil // that is all of it
	}
	raw, err := keepEntries(root.raw, func(d oci.Digest) bool { return kept[d] })
	if err != nil {
		return plan{}, err
	}
	d := oci.Descriptor{MediaType: root.MediaType, Digest: root.Digest.Algorithm().FromBytes(raw), Size: int64(len(raw))}
	p.root, err = parse(d, raw)
	return p, err
}

// checkPlatform returns an error unless n, which is no index, is an image for
// one of want. What isn't an image has no platform and passes.
func (c *copier) checkPlatform(ctx context.Context, n node, want []oci.Platform) error {
	if len(want) == 0 || !isImageConfig(n.m.Config.MediaType) {
		return nil
	}
	var cfg struct{ oci.Platform }
	if err := c.readConfig(ctx, *n.m.Config, &cfg); err != nil {
		return err
	}
	return oneOf(want, cfg.Platform)
}

// oneOf returns an error matching [oci.ErrNotFound] unless has, an image's
// platform, is one of want. None wants any.
func oneOf(want []oci.Platform, has oci.Platform) error {
	var asked []string
	for _, w := range want {
		if matches(w, has) {
			return nil
		}
		asked = append(asked, PlatformName(&w))
	}
	if len(want) == 0 {
		return nil
	}
	return fmt.Errorf("platform %s: %w; the image is for %s", strings.Join(asked, ", "), oci.ErrNotFound, PlatformName(&has))
}
