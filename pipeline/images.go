package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
)

// Images gives what item consists of: one image or artifact, or those of an
// index, of platforms if that names any. Attestations are left out, and
// manifests that an index names twice come once.
//
// An image of an index that can't be read is an error, which comes with the
// others. Errors are those of [Copy].
func Images(ctx context.Context, src oci.Source, item oci.Item, platforms []oci.Platform) ([]filetree.Image, error) {
	c := &copier{Image: Image{Item: item, Source: src}}
	c.report.Reference = label(item)
	root, err := c.resolve(ctx, item.Desc.Digest)
	if err != nil {
		return nil, err
	}
	if !root.m.IsIndex() {
		if err := c.checkPlatform(ctx, root, platforms); err != nil {
			return nil, oci.Wrap(err, "read image", c.report.Reference, oci.Descriptor{})
		}
		return []filetree.Image{imageOf(root, nil)}, nil
	}
	l := &leaves{copier: c, platforms: platforms, seen: map[oci.Digest]bool{}}
	err = l.below(ctx, root, 0)
	return l.images, oci.Wrap(err, "read index", c.report.Reference, oci.Descriptor{})
}

func imageOf(n node, p *oci.Platform) filetree.Image {
	return filetree.Image{Manifest: n.Descriptor, Platform: p, Config: *n.m.Config, Layers: n.m.Layers}
}

// leaves gathers the images below an index.
type leaves struct {
	*copier
	platforms []oci.Platform
	seen      map[oci.Digest]bool
	images    []filetree.Image
}

// below adds the images of index n, and gives the errors of those that can't be
// read.
func (l *leaves) below(ctx context.Context, n node, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxDepth)
	}
	entries := n.m.Manifests
	if len(l.platforms) > 0 {
		var err error
		if entries, err = choose(entries, l.platforms); err != nil {
			return err
		}
	}
	var errs []error
	for _, d := range entries {
		if isAttestation(d) || !isManifest(d) || l.seen[d.Digest] {
			continue
		}
		if len(l.seen) >= maxManifests {
			return fmt.Errorf("%w: more than %d manifests", oci.ErrTooLarge, maxManifests)
		}
		l.seen[d.Digest] = true
		child, err := l.child(ctx, d)
		switch {
		case err != nil:
			errs = append(errs, err)
		case child.m.IsIndex():
			errs = append(errs, l.below(ctx, child, depth+1))
		default:
			p := d.Platform
			if p == nil {
				p = &oci.Platform{} // of an index that doesn't say
			}
			l.images = append(l.images, imageOf(child, p))
		}
	}
	return errors.Join(errs...)
}
