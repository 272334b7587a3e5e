package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// resolve reads the manifest that pin names, or where that is "" the one that
// the tag names now.
//
// The listing's digest may be served no more: then the tag says why. It has
// another digest: [oci.ErrMoved], or with FollowMoved that one is taken; it is
// gone: [oci.ErrGone].
func (c *copier) resolve(ctx context.Context, pin oci.Digest) (node, error) {
	name := c.Item.Ref.Reference()
	ref := string(pin)
	if pin == "" {
		ref = name
	}
	n, err := c.read(ctx, ref)
	if err == nil || !errors.Is(err, oci.ErrNotFound) || pin == "" || name == "" || oci.IsDigest(name) {
		return n, err
	}
	now, tagErr := c.read(ctx, name)
	switch {
	case errors.Is(tagErr, oci.ErrNotFound):
		return node{}, c.resolveError(oci.ErrGone)
	case tagErr != nil:
		return node{}, tagErr
	case now.Digest != pin && !c.opt.FollowMoved:
		return node{}, c.moved(pin, now.Digest)
	}
	return now, nil
}

// relook asks whether the tag is why a part of the pinned image is missing. It
// gives no error where it isn't, or where what the tag has now is to be taken.
func (c *copier) relook(ctx context.Context, pin oci.Digest) (follow bool, why error) {
	name := c.Item.Ref.Reference()
	if name == "" || oci.IsDigest(name) {
		return false, nil
	}
	now, err := c.Source.Head(ctx, name)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return false, c.resolveError(oci.ErrGone)
	case err != nil, now.Digest == pin:
		return false, nil // the missing part is the better message
	case !c.opt.FollowMoved:
		return false, c.moved(pin, now.Digest)
	}
	return true, nil
}

func (c *copier) moved(before, now oci.Digest) error {
	return c.resolveError(fmt.Errorf("%w: %s -> %s", oci.ErrMoved, before, now))
}

func (c *copier) resolveError(err error) error {
	return &oci.Error{Op: "resolve", Ref: c.report.Reference, Err: err}
}

// read resolves ref, a tag or digest, at the source.
func (c *copier) read(ctx context.Context, ref string) (node, error) {
	d, raw, err := c.Source.Resolve(ctx, ref)
	if err == nil {
		var n node
		if n, err = parse(d, raw); err == nil {
			return n, nil
		}
	}
	return node{}, oci.Wrap(err, "get manifest", c.report.Reference, oci.Descriptor{})
}
