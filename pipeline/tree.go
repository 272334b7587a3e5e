package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxDepth bounds how deep indexes may nest.
	maxDepth = 4
	// maxManifests bounds the manifests of one image.
	maxManifests = 10_000
	// childrenAtOnce bounds the manifests of one index that are held at once.
	childrenAtOnce = 4
	// blobsAtOnce bounds the blobs of one manifest that wait for their turn. How
	// many are transferred at once is the Mover's to say.
	blobsAtOnce = 64
)

// A tree is the copy of everything below a root, each manifest once.
type tree struct {
	*copier
	compare bool        // the name is at the destination's registry, perhaps with what is made of the layers
	unknown atomic.Bool // what becomes of layers isn't known, in a dry run

	mu       sync.Mutex
	visits   map[oci.Digest]*visit
	outcomes map[oci.Digest]filter.Outcome // by the manifest at the source
}

// A visit is the copy of one manifest that more than one index may hold.
type visit struct {
	done chan struct{} // closed once the rest is set
	was  node
	now  oci.Descriptor
	err  error
}

// below brings what n refers to: the children of an index, or the blobs of a
// manifest. It gives n as it is to be put, which is the caller's to do. plain
// says that no filters are to see it.
func (t *tree) below(ctx context.Context, n node, depth int, plain bool) (node, error) {
	switch {
	case n.m.IsIndex() && depth == maxDepth:
		return node{}, fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxDepth)
	case n.m.IsIndex():
		return t.index(ctx, n, depth)
	case !plain && (t.wantsFilters(n) || t.recoded(n)):
		return t.filtered(ctx, n, depth > 0)
	case t.Traits.Raw:
		return n, t.rawImage(ctx, n)
	}
	return n, t.blobs(ctx, n)
}

// index brings the children of n. Where some were changed it gives another
// index, without the attestations about those.
func (t *tree) index(ctx context.Context, n node, depth int) (node, error) {
	early, late := n.m.Manifests, []oci.Descriptor(nil)
	if t.filters != "" || t.recodes() {
		early = nil
		for _, d := range n.m.Manifests {
			if isAttestation(d) {
				late = append(late, d)
			} else {
				early = append(early, d)
			}
		}
	}
	now := map[oci.Digest]oci.Descriptor{}
	var mu sync.Mutex
	bring := func(ctx context.Context, _ int, d oci.Descriptor) error {
		got, err := t.entry(ctx, d, depth+1)
		mu.Lock()
		defer mu.Unlock()
		now[d.Digest] = got
		return err
	}
	// The bound is of this index alone, so that nested ones can't wait in a circle.
	if err := each(ctx, early, childrenAtOnce, bring); err != nil {
		return node{}, err
	}
	gone := untrue(n, now)
	if len(gone) > 0 {
		t.opt.warnf("attestations about images that were changed are left out: what they say was said of other images")
		t.copier.mu.Lock()
		t.report.AttestationsDropped += len(gone)
		t.copier.mu.Unlock()
		late = slices.DeleteFunc(late, func(d oci.Descriptor) bool { return gone[d.Digest] })
	}
	if err := each(ctx, late, childrenAtOnce, bring); err != nil {
		return node{}, err
	}
	return newIndex(n, now, gone)
}

// each calls do for all, atOnce at a time, until one fails or ctx ends.
func each(ctx context.Context, all []oci.Descriptor, atOnce int, do func(context.Context, int, oci.Descriptor) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, d := range all {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(gctx, i, d) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx) // some of it was not begun
}

// entry brings what one entry of an index names, with all below it, and gives
// what it is now.
func (t *tree) entry(ctx context.Context, d oci.Descriptor, depth int) (oci.Descriptor, error) {
	if !isManifest(d) {
		return d, t.move(ctx, t.piece(d, -1))
	}
	t.mu.Lock()
	v := t.visits[d.Digest]
	first := v == nil
	if first {
		v = &visit{done: make(chan struct{})}
		t.visits[d.Digest] = v
	}
	count := len(t.visits)
	t.mu.Unlock()
	if !first {
		select {
		case <-v.done:
			return v.now, v.err
		case <-ctx.Done():
			return d, context.Cause(ctx)
		}
	}
	defer close(v.done)
	if count > maxManifests {
		v.err = fmt.Errorf("%w: more than %d manifests", oci.ErrTooLarge, maxManifests)
		return d, v.err
	}
	v.err = t.manifest(ctx, d, depth, v)
	return v.now, v.err
}

// isManifest reports whether d, an entry of an index, is one. Build caches list
// blobs there.
func isManifest(d oci.Descriptor) bool {
	return d.MediaType == "" || oci.IsManifestType(d.MediaType) || strings.Contains(d.MediaType, "manifest")
}

func (t *tree) manifest(ctx context.Context, d oci.Descriptor, depth int, v *visit) error {
	n, err := t.child(ctx, d)
	if err != nil {
		return err
	}
	now, err := t.below(ctx, n, depth, isAttestation(d))
	if err != nil {
		return err
	}
	if v.now = now.Descriptor; len(t.opt.Filters.Observers) > 0 {
		v.was = n
	}
	return t.putManifest(ctx, now)
}

// child reads the manifest that an index describes as d.
func (c *copier) child(ctx context.Context, d oci.Descriptor) (node, error) {
	if n, ok := c.children[d.Digest]; ok && n.Size == d.Size && (d.MediaType == "" || n.MediaType == d.MediaType) {
		return n, nil
	}
	n, err := readChild(ctx, c.Source, d)
	return n, oci.Wrap(err, "get manifest", c.report.Reference, d)
}

func readChild(ctx context.Context, src oci.Source, d oci.Descriptor) (node, error) {
	got, raw, err := src.Resolve(ctx, string(d.Digest))
	if err != nil {
		return node{}, err
	}
	if got.Digest != d.Digest || int64(len(raw)) != d.Size {
		return node{}, fmt.Errorf("%w: the index says %s of %d bytes, the source has %s of %d", oci.ErrDigestMismatch, d.Digest, d.Size, got.Digest, len(raw))
	}
	if d.MediaType != "" {
		got.MediaType = d.MediaType // the index and the bytes must agree
	}
	return parse(got, raw)
}

// blobs brings the config and layers of n as they are.
func (t *tree) blobs(ctx context.Context, n node) error {
	if !t.Traits.Index && !isImageConfig(n.m.Config.MediaType) {
		return t.artifact(n)
	}
	t.countLayers(n)
	all := n.m.Blobs() // the config first
	first := t.firsts(all)
	return each(ctx, all, t.atOnce(), func(ctx context.Context, i int, d oci.Descriptor) error {
		if first[i] != i {
			return nil
		}
		err := t.move(ctx, t.piece(d, i-1))
		if errors.Is(err, oci.ErrNotFound) && isForeign(d) {
			t.opt.warnf("foreign layer %s is not at the source, so only its mention is copied", d.Digest)
			return nil
		}
		return err
	})
}

// atOnce is how many blobs are asked for at once.
func (c *copier) atOnce() int {
	if c.Traits.Ordered {
		return 1
	}
	return blobsAtOnce
}

func (c *copier) countLayers(n node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Layers += len(n.m.Layers)
}

// piece is blob d as the source has it. It may be opened after its image has gone
// on to another manifest, or has ended.
func (c *copier) piece(d oci.Descriptor, layer int) Piece {
	b := oci.Blob{Desc: d, Layer: layer}
	b.Open = func(ctx context.Context) (io.ReadCloser, error) { return c.Source.Fetch(ctx, d) }
	if raw := c.configRaw; d.Digest == c.config {
		b.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	}
	return Piece{Blob: b, Size: d.Size}
}

// isForeign reports whether d is a layer that registries needn't hold. Where it
// would come from is its author's word, so it isn't followed.
func isForeign(d oci.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign."))
}

func (c *copier) artifact(n node) error {
	kind := n.m.ArtifactType
	if kind == "" {
		kind = n.m.Config.MediaType
	}
	return &oci.Error{Op: "copy", Ref: c.report.Reference, Err: fmt.Errorf("the destination takes images, and this is an artifact (%s): %w", kind, oci.ErrUnsupported)}
}
