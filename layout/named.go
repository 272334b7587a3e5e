package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A Named is the image that a name in index.json means: the reading half of a
// layout's [oci.Destination].
type Named struct {
	*Reader
	Name  string
	Whole *sync.Map // digests of blobs that this run has read back; shared by all its images
	// Advice is what to do about a blob that Verify finds damaged: "; run again".
	Advice string
}

// Head answers for "" what the name means now, if all of it is there: manifests
// whole, each config and layer with its size. Otherwise the image is to be
// written, and the error matches [oci.ErrNotFound].
func (n *Named) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	desc, _, err := n.Resolve(ctx, ref)
	if err == nil && ref == "" {
		if err = n.Walk(ctx, desc, func(b oci.Descriptor, _ bool) error { return n.Stat(b) }); Damaged(err) {
			err = fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err)
		}
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "look up "+n.Name+" in", n.Path, oci.Descriptor{})
	}
	return desc, nil
}

// Resolve gives the manifest that the name means now for "", or a digest's.
func (n *Named) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	fail := func(err error) (oci.Descriptor, []byte, error) {
		return oci.Descriptor{}, nil, oci.Wrap(err, "look up "+n.Name+" in", n.Path, oci.Descriptor{})
	}
	if ref != "" {
		return (&source{Reader: n.Reader}).Resolve(ctx, ref)
	}
	index, err := n.Index()
	if absent(err) {
		return fail(oci.ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	d, ok := index.Get(n.Name)
	if !ok {
		return fail(oci.ErrNotFound)
	}
	full, raw, err := n.Manifest(d)
	if Damaged(err) {
		err = fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err)
	}
	if err != nil {
		return fail(err)
	}
	return oci.Descriptor{MediaType: full.MediaType, Digest: full.Digest, Size: full.Size}, raw, nil
}

// Has compares the size too: a shorter file is what a dead run of another tool
// left.
func (n *Named) Has(_ context.Context, desc oci.Descriptor) (bool, error) {
	ok, err := n.Holds(desc)
	return ok, oci.Wrap(err, "look up blob", n.Path, desc)
}

// Verify reads index.json, manifests and configs again and compares each
// blob's size; with full it hashes every blob, each once in a run.
func (n *Named) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	return oci.Wrap(n.verify(ctx, root, full), "verify "+n.Name+" in", n.Path, root)
}

func (n *Named) verify(ctx context.Context, root oci.Descriptor, full bool) error {
	index, err := n.Index()
	if err != nil {
		return missing(err, IndexFile)
	}
	d, ok := index.Get(n.Name)
	if !ok {
		return fmt.Errorf("%w in %s", oci.ErrNotFound, IndexFile)
	}
	if d.Digest != root.Digest {
		return fmt.Errorf("%w: %s says %s; another process has changed it", oci.ErrDigestMismatch, IndexFile, d.Digest)
	}
	return n.Walk(ctx, d, func(b oci.Descriptor, isConfig bool) error {
		if err := n.Stat(b); err != nil || !full && !isConfig {
			return err
		}
		return n.rehash(ctx, b)
	})
}

// rehash reads blob b back, unless this run has done so.
func (n *Named) rehash(ctx context.Context, b oci.Descriptor) error {
	if _, done := n.Whole.Load(b.Digest); done {
		return nil
	}
	rc, err := n.Open(ctx, b)
	if errors.Is(err, oci.ErrNotFound) && len(b.URLs) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return fmt.Errorf("%s: %w%s", BlobPath(b.Digest), err, n.Advice)
	}
	n.Whole.Store(b.Digest, true)
	return nil
}
