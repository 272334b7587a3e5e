package ocidir

import (
	"context"
	"fmt"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// place is a layout that is written to.
type place struct {
	path   string
	folder *folder
	stage  *stage.Stage
	reader *layout.Reader
	name   *oci.Ref // from the URI: the one image; nil for any number
	// compression is as in [oci.Traits].
	compression string
	names       *stage.Group[naming]
	whole       sync.Map // digests of blobs that this run has hashed on the disk
}

// naming is a name and what it is to mean.
type naming struct {
	name string
	desc oci.Descriptor
}

func newTarget(st *stage.Stage, name *oci.Ref, compression string) *place {
	p := &place{path: st.Path(), folder: newFolder(st.Root), stage: st, name: name, compression: compression}
	p.reader = &layout.Reader{Path: p.path, Files: p.folder}
	p.names = stage.NewGroup(st.Lock, p.setNames)
	return p
}

// Traits: a path with REF takes one image.
func (p *place) Traits() oci.Traits {
	return oci.Traits{Many: p.name == nil, Index: true, Compression: p.compression}
}

// SharedBlobs makes it an [oci.Shelf].
func (p *place) SharedBlobs() bool { return true }

// Image opens the destination of name. The REF of the URI, if there is one,
// takes its place.
func (p *place) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	if p.name != nil {
		name = *p.name
	}
	s := layout.RefName(name)
	if s == "" {
		return nil, oci.Usage(fmt.Sprintf("%s: an image without a name; write ocidir://PATH:REF", p.path))
	}
	return &destination{layout.Named{Reader: p.reader, Name: s, Whole: &p.whole, Advice: "; delete that file and run again"}, p}, nil
}

// setNames is the write function of names: it runs under the lock.
func (p *place) setNames(ctx context.Context, batch []naming) []error {
	if err := p.tryNames(ctx, batch); err != nil {
		return []error{err}
	}
	return nil
}

func (p *place) tryNames(ctx context.Context, batch []naming) error {
	index, err := p.folder.Index()
	if err != nil {
		return safepath.Missing(err)
	}
	index = index.Clone()
	changed := false
	for _, n := range batch {
		c, err := index.Set(n.name, n.desc)
		if err != nil {
			return err
		}
		changed = changed || c
	}
	// Blobs that another process put are made durable too: what the index
	// names must be on the disk before the index is.
	if err := p.stage.Sync(".", layout.BlobFolder, layout.BlobFolder+"/sha256", layout.BlobFolder+"/sha384", layout.BlobFolder+"/sha512"); err != nil {
		return err
	}
	if !changed {
		return nil
	}
	raw, err := index.Marshal()
	if err != nil {
		return err
	}
	if len(raw) > layout.MaxIndexSize {
		return fmt.Errorf("%s: %w: over %d bytes; use several layouts", layout.IndexFile, oci.ErrTooLarge, layout.MaxIndexSize)
	}
	if err := p.stage.WriteFile(ctx, layout.IndexFile, raw); err != nil {
		return err
	}
	root, err := p.folder.root()
	if err != nil {
		return err
	}
	return p.folder.index.Wrote(root, raw, index)
}

// Finish removes what killed runs left, if this one has written nothing.
func (p *place) Finish(ctx context.Context) error {
	return oci.Wrap(p.stage.Sweep(ctx), "clean up", p.path, oci.Descriptor{})
}

func (p *place) Close() error {
	p.folder.index.Close()
	return oci.Wrap(p.stage.Close(), "clean up", p.path, oci.Descriptor{})
}
