package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// maxAhead bounds the bytes of an index's children that are read before the
// image's turn: 1 MiB. The others are read when they are written.
const maxAhead = 1 << 20

// A Begun is an image that was looked up, and of which nothing was moved yet.
type Begun struct {
	c   *copier
	err error // why there is nothing to finish
}

// Begin finds out what is to be done for img: what its name has at the
// destination, which manifest the listing means, and which of it is wanted. An
// image that is to be written tells so to a destination that is an
// [oci.Foreseer]. The rest, and what may have failed, is Finish's.
//
// Time may pass between the two. That a tag moves meanwhile is dealt with as if
// it moved during a [Copy].
func Begin(ctx context.Context, img Image, opt Options) *Begun {
	start := time.Now()
	c := &copier{Image: img, opt: opt, mover: opt.Mover, filters: filterIDs(opt.Filters), report: Unbegun(img.Item, img.To)}
	if c.mover == nil {
		c.mover = direct{dest: img.Dest, dry: opt.DryRun}
	}
	b := &Begun{c: c}
	b.err = c.begin(ctx)
	_, streams := img.Source.(oci.Streamer) // of which nothing is known yet
	if f, ok := img.Dest.(oci.Foreseer); ok && !b.Done() && !streams && !opt.DryRun {
		f.WillWrite()
	}
	c.report.Seconds = time.Since(start).Seconds()
	return b
}

// Done reports whether nothing is left to be moved: the image is there, or it
// can't be copied.
func (b *Begun) Done() bool { return b.err != nil || b.c.skips != nil }

// Held counts the bytes of manifests and configs that wait for Finish.
func (b *Begun) Held() int64 {
	n := len(b.c.chosen.root.raw) + len(b.c.configRaw)
	for _, child := range b.c.children {
		n += len(child.raw)
	}
	return int64(n)
}

// Blobs gives what is to be moved as it is, each blob once, as far as manifests
// were read. What filters or another compression may change isn't among it, nor
// are layers that sources needn't have.
func (b *Begun) Blobs() []Piece {
	if b.Done() {
		return nil
	}
	var all []Piece
	seen := map[oci.Digest]bool{}
	add := func(n node, plain bool) {
		if n.m == nil || n.m.IsIndex() || b.c.Traits.Raw || !plain && (b.c.wantsFilters(n) || b.c.recoded(n)) {
			return
		}
		for i, d := range n.m.Blobs() { // the config first
			if !seen[d.Digest] && !isForeign(d) {
				seen[d.Digest] = true
				all = append(all, b.c.piece(d, i-1))
			}
		}
	}
	root := b.c.chosen.root
	if root.m == nil { // a stream's
		return nil
	}
	add(root, false)
	for _, d := range root.m.Manifests {
		add(b.c.children[d.Digest], isAttestation(d))
	}
	return all
}

// Finish does what is left, as [Copy] says. It is called once.
func (b *Begun) Finish(ctx context.Context) (oci.ImageReport, error) {
	start := time.Now()
	c, err := b.c, b.err
	if err == nil {
		err = c.finish(ctx)
	}
	c.report.Seconds += time.Since(start).Seconds()
	if err == nil {
		return c.report, nil
	}
	c.report.Status, c.report.Step, c.report.Error = oci.StatusFailed, "copy", err.Error()
	if e, ok := errors.AsType[*oci.Error](err); ok {
		c.report.Step = e.Op
	}
	if ctx.Err() != nil {
		c.report.Status = oci.StatusInterrupted
	}
	return c.report, &oci.Error{Op: "copy", Ref: c.report.Reference, Err: err}
}

func (c *copier) begin(ctx context.Context) (err error) {
	if c.there, err = c.lookUp(ctx); err != nil {
		return err
	}
	if _, ok := c.Source.(oci.Streamer); ok {
		return nil
	}
	if c.there != nil {
		if same, err := c.sameAsListed(ctx, *c.there); same || err != nil {
			c.skips = c.there
			return err
		}
	}
	c.pin = c.Item.Desc.Digest
	return c.prepare(ctx)
}

// prepare reads the manifest that is meant, and chooses.
func (c *copier) prepare(ctx context.Context) error {
	for {
		root, err := c.resolve(ctx, c.pin)
		if err != nil {
			return err
		}
		if err = c.choose(ctx, root); err == nil {
			return nil
		}
		if err := c.follow(ctx, err); err != nil {
			return err
		}
	}
}

// finish does what begin left.
func (c *copier) finish(ctx context.Context) error {
	if s, ok := c.Source.(oci.Streamer); ok {
		return c.stream(ctx, s, c.there)
	}
	for {
		if c.skips != nil {
			return c.skip(ctx, *c.skips)
		}
		err := c.deliver(ctx)
		if err == nil {
			return nil
		}
		if err := c.follow(ctx, err); err != nil {
			return err
		}
		if err := c.prepare(ctx); err != nil {
			return err
		}
	}
}

// follow gives err, which ended the copy of the pinned manifest, or why that had
// to fail; nil if what the tag has now is to be copied in its place. A tag that
// moves while its image is copied takes parts of it away.
func (c *copier) follow(ctx context.Context, err error) error {
	if c.pin == "" || !errors.Is(err, oci.ErrNotFound) || ctx.Err() != nil {
		return err
	}
	follow, why := c.relook(ctx, c.pin)
	switch {
	case why != nil:
		return why
	case !follow:
		return err
	}
	c.pin = ""
	return nil
}

// choose decides what root, the source's manifest, stands for, and whether that
// is there.
func (c *copier) choose(ctx context.Context, root node) error {
	c.children = nil
	c.learnt(root.Descriptor)
	p, err := c.plan(ctx, root)
	if err != nil {
		return oci.Wrap(err, "choose platform", c.report.Reference, oci.Descriptor{})
	}
	c.report.Platforms, c.report.LeftOut, c.report.Layers = p.platforms, p.leftOut, 0
	c.wrote(p.root.Descriptor)
	if c.stays(p) {
		return nil
	}
	if p.root.m == nil {
		if p.root, err = c.child(ctx, p.root.Descriptor); err != nil {
			return err
		}
		if c.stays(p) { // now that its config is known
			return nil
		}
	}
	c.chosen = p
	return c.readAhead(ctx)
}

// stays reports, and notes, whether p is there and nobody wants to look at it.
func (c *copier) stays(p plan) bool {
	if c.there == nil || !c.isAt(*c.there, p) || c.opt.Filters.Looks {
		return false
	}
	c.skips = c.there
	return true
}

// readAhead reads children of the chosen root up to [maxAhead]: what they refer
// to is known then before any of it is moved.
func (c *copier) readAhead(ctx context.Context) error {
	var wanted []oci.Descriptor
	var size int64
	seen := map[oci.Digest]bool{}
	for _, d := range c.chosen.root.m.Manifests {
		if size += max(d.Size, 0); size > maxAhead {
			break
		}
		if isManifest(d) && !seen[d.Digest] {
			seen[d.Digest] = true
			wanted = append(wanted, d)
		}
	}
	var mu sync.Mutex
	children := make(map[oci.Digest]node, len(wanted))
	err := each(ctx, wanted, childrenAtOnce, func(ctx context.Context, _ int, d oci.Descriptor) error {
		n, err := c.child(ctx, d)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			children[d.Digest] = n
		}
		return err
	})
	c.children = children
	return err
}
