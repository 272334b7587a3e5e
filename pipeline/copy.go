package pipeline

import (
	"context"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

// Copy brings img to its destination and says what it did, also where it
// returns an error. The error is an [*oci.Error] that names the image, and
// below it the step and the cause. It matches [oci.ErrMoved] or [oci.ErrGone]
// where the tag isn't what was listed, [oci.ErrUsage] where the place takes no
// such image, and [oci.ErrNotFound] for an image, a part of it or a platform that
// isn't there.
//
// Nothing is visible under the image's name before everything below it is
// there. A ctx that ends leaves the status at [oci.StatusInterrupted].
func Copy(ctx context.Context, img Image, opt Options) (oci.ImageReport, error) {
	return Begin(ctx, img, opt).Finish(ctx)
}

// Unbegun is the report of an image that nothing was done for yet.
func Unbegun(item oci.Item, to oci.Ref) oci.ImageReport {
	r := oci.ImageReport{Reference: label(item), Status: oci.StatusInterrupted, Destination: to.Tagged()}
	if !oci.IsSynthetic(item.Desc) {
		r.Digest = item.Desc.Digest
	}
	return r
}

// label gives what an image is called in reports: its reference, with a digest
// only where it has no tag; in a layout that may be a bare tag or digest.
func label(item oci.Item) string {
	r := item.Ref
	if r.Tag == "" && r.Digest == "" {
		r.Digest = item.Desc.Digest
	}
	return r.Tagged()
}

// A copier is one run of [Copy].
type copier struct {
	Image
	opt     Options
	mover   Mover
	filters string // that change something: [filterIDs]

	there    *oci.Descriptor // what the destination's name has; nil if nothing
	pin      oci.Digest      // of the manifest that the listing means; "" takes what the tag has
	chosen   plan
	children map[oci.Digest]node // of the root, that were read ahead
	skips    *oci.Descriptor     // set if there is nothing to do: what is there

	config    oci.Digest // that was read to be understood, before anything was moved
	configRaw []byte

	mu     sync.Mutex // held for report's counters
	report oci.ImageReport
}

// A node is a manifest or index as it was read.
type node struct {
	oci.Descriptor // of raw; MediaType is the one that holds
	raw            []byte
	m              *oci.Manifest
}

// parse reads raw, which d describes, as a node.
func parse(d oci.Descriptor, raw []byte) (node, error) {
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		return node{}, err
	}
	d.MediaType = m.MediaType
	return node{d, raw, m}, nil
}

// wrote notes what the destination's name is to have.
func (c *copier) wrote(d oci.Descriptor) {
	if c.report.Written = ""; d.Digest != c.report.Digest && !c.Traits.Raw && !oci.IsSynthetic(d) {
		c.report.Written = d.Digest
	}
}

// learnt notes what the source's name has. Nobody else has a manifest that was
// made up, so its digest is told to nobody.
func (c *copier) learnt(d oci.Descriptor) {
	if c.report.Digest = d.Digest; oci.IsSynthetic(d) {
		c.report.Digest = ""
	}
}

// deliver brings the root and everything below it, and its name last.
func (c *copier) deliver(ctx context.Context) error {
	there, p := c.there, c.chosen
	if there != nil && c.foreseen(ctx, p.root, *there) {
		c.wrote(written(*there))
		return c.skip(ctx, *there)
	}
	if len(p.leftOut) > 0 && len(c.opt.Platforms) == 0 {
		c.opt.warnf("the destination takes one platform: took %s and left out %s; --platform chooses",
			strings.Join(p.platforms, ", "), strings.Join(p.leftOut, ", "))
	}
	// To know a result before it is sent may take a second pass. A folder is
	// written to instead.
	_, registry := c.Dest.(oci.Mounter)
	t := &tree{copier: c, visits: map[oci.Digest]*visit{}, outcomes: map[oci.Digest]filter.Outcome{}, compare: there != nil && registry}
	root, err := t.below(ctx, p.root, 0, false)
	if err != nil {
		return err
	}
	if !t.unknown.Load() {
		c.wrote(root.Descriptor)
	}
	switch {
	case c.opt.DryRun:
		c.report.Status = oci.StatusPlanned
		return nil
	case there != nil && (c.isThere(*there, root) || c.Traits.Raw && c.isAt(*there, p)):
		err = c.skip(ctx, *there)
	default:
		err = c.commit(ctx, root, p.from)
	}
	if err != nil {
		return err
	}
	return t.observe(ctx, p.root)
}

// commit puts root under its name.
func (c *copier) commit(ctx context.Context, root node, from oci.Descriptor) error {
	if c.opt.Moved != nil {
		c.opt.Moved()
		c.opt.Moved = nil // what a tag has that moves now is no news
	}
	if err := c.putManifest(ctx, root); err != nil {
		return err
	}
	if c.filters != "" {
		from.Annotations = map[string]string{oci.AnnotationFilters: c.filters}
	}
	if err := c.Dest.Commit(ctx, root.Descriptor, from); err != nil {
		return oci.Wrap(err, "commit", c.report.Destination, root.Descriptor)
	}
	if err := c.verify(ctx, root.Descriptor); err != nil {
		return err
	}
	c.report.Status = oci.StatusCopied
	return nil
}

func (c *copier) putManifest(ctx context.Context, n node) error {
	if c.opt.DryRun {
		return nil
	}
	_, err := c.Dest.PutManifest(ctx, n.raw, n.MediaType)
	return oci.Wrap(err, "put manifest", c.report.Destination, n.Descriptor)
}

func (c *copier) verify(ctx context.Context, root oci.Descriptor) error {
	if c.opt.Verify == VerifyNone {
		return nil
	}
	if err := c.Dest.Verify(ctx, root, c.opt.Verify == VerifyFull); err != nil {
		return oci.Wrap(err, "verify", c.report.Destination, root)
	}
	c.report.Verified = true
	return nil
}

// move brings one blob and counts it.
func (c *copier) move(ctx context.Context, p Piece) error {
	d, way, err := c.mover.Move(ctx, p)
	if err != nil {
		return oci.Wrap(err, "copy blob", c.report.Reference, p.Blob.Desc)
	}
	if d.Digest != p.Blob.Desc.Digest {
		return &oci.Error{Op: "put blob", Ref: c.report.Destination, Desc: p.Blob.Desc, Err: oci.ErrDigestMismatch}
	}
	c.tally(way, p.Size)
	return nil
}

// tally counts a blob, of size bytes at the source, that came by way.
func (c *copier) tally(way Way, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size = max(size, 0)
	switch way {
	case Fetched:
		c.report.BlobsMoved++
		c.report.BytesMoved += size
		return
	case Mounted:
		c.report.BlobsMounted++
	case Relayed:
		c.report.BlobsRelayed++
	case Present:
		c.report.BlobsPresent++
	}
	c.report.BytesShared += size
}
