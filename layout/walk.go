package layout

import (
	"context"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// Walk reads the manifest root and all below it, each digest once, and calls
// blob for each config, layer and what else they name. Manifests are checked
// against their digests on the way.
func (r *Reader) Walk(ctx context.Context, root oci.Descriptor, blob func(d oci.Descriptor, isConfig bool) error) error {
	w := walker{reader: r, seen: map[oci.Digest]bool{}, blob: blob}
	return w.visit(ctx, root, 0)
}

// Reach is Walk that calls visit for manifests too, each before it is read.
func (r *Reader) Reach(ctx context.Context, root oci.Descriptor, visit func(d oci.Descriptor) error) error {
	w := walker{reader: r, seen: map[oci.Digest]bool{}, manifest: visit,
		blob: func(d oci.Descriptor, _ bool) error { return visit(d) }}
	return w.visit(ctx, root, 0)
}

type walker struct {
	reader   *Reader
	seen     map[oci.Digest]bool
	manifest func(d oci.Descriptor) error // nil for nothing
	blob     func(d oci.Descriptor, isConfig bool) error
}

func (w *walker) visit(ctx context.Context, d oci.Descriptor, depth int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.seen[d.Digest] {
		return nil
	}
	w.seen[d.Digest] = true
	if depth > maxDepth {
		return fmt.Errorf("%s: %w: indexes nested deeper than %d", d.Digest, oci.ErrInvalid, maxDepth)
	}
	if w.manifest != nil {
		if err := w.manifest(d); err != nil {
			return err
		}
	}
	d, raw, err := w.reader.Manifest(d)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", BlobPath(d.Digest), err)
	}
	for _, child := range m.Manifests {
		if child.MediaType != "" && !oci.IsManifestType(child.MediaType) { // build caches list blobs
			if err := w.leaf(ctx, child, false); err != nil {
				return err
			}
			continue
		}
		if err := w.visit(ctx, child, depth+1); err != nil {
			return err
		}
	}
	for i, b := range m.Blobs() {
		if err := w.leaf(ctx, b, i == 0); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) leaf(ctx context.Context, d oci.Descriptor, isConfig bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.seen[d.Digest] {
		return nil
	}
	w.seen[d.Digest] = true
	return w.blob(d, isConfig)
}

// Damaged reports whether err of a Reader says that content is absent or wrong,
// rather than that it couldn't be read.
func Damaged(err error) bool {
	for _, kind := range []error{oci.ErrNotFound, oci.ErrDigestMismatch, oci.ErrInvalid, oci.ErrTooLarge, oci.ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
