package filter

import (
	"context"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A Chain is the filters of a run, in order: the first sees what the source has.
// The zero value changes nothing.
type Chain struct {
	Entries   []oci.EntryFilter
	Images    []oci.ImageFilter
	Observers []Observer
	// Changes says that Entries may change layers. Else they only look, and
	// every layer keeps its blob.
	Changes bool
	// Looks says that Observers want to know what only reading tells: the layers
	// of every image must have been through Entries in this run and their sizes
	// be known, whatever a cache of earlier runs or the destination has, and also
	// if there are no Entries. A layer that images share goes through once.
	Looks bool
}

// ParseAll makes the chain of specs (see [Parse]). The error matches [oci.ErrUsage].
func ParseAll(specs []string, env Env) (Chain, error) {
	if found := env.Found; found != nil {
		var mu sync.Mutex
		env.Found = func(f Findings) error {
			mu.Lock()
			defer mu.Unlock()
			return found(f)
		}
	}
	var c Chain
	for _, spec := range specs {
		f, err := Parse(spec, env)
		if err != nil {
			return Chain{}, err
		}
		c.add(f)
		env.changed = c.Changes
	}
	return c, nil
}

func (c *Chain) add(f Filter) {
	if f.Entry != nil {
		c.Entries = append(c.Entries, f.Entry)
	}
	if f.Image != nil {
		c.Images = append(c.Images, f.Image)
	}
	if f.Observer != nil {
		c.Observers = append(c.Observers, f.Observer)
	}
	c.Changes = c.Changes || f.Changes
	c.Looks = c.Looks || f.Observer != nil
}

// Empty reports whether the chain has no filter.
func (c Chain) Empty() bool {
	return len(c.Entries)+len(c.Images)+len(c.Observers) == 0
}

// IDs are those of Entries: what a layer becomes depends on its digest, these and
// how it is compressed.
func (c Chain) IDs() []string {
	ids := make([]string, len(c.Entries))
	for i, f := range c.Entries {
		ids[i] = f.ID()
	}
	return ids
}

// Edit puts img through Images.
func (c Chain) Edit(ctx context.Context, img *oci.Image) error {
	for _, f := range c.Images {
		if err := f.Edit(ctx, img); err != nil {
			return oci.Wrap(err, "filter config", img.Ref.String(), oci.Descriptor{})
		}
	}
	return nil
}

// Observe tells Observers of an image, once all of it is done.
func (c Chain) Observe(ctx context.Context, o Outcome) error {
	for _, x := range c.Observers {
		if err := x.Observe(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// An Observer is told of each image that went through a chain, after its last
// layer. An index is told of by its images. Implementations are safe for
// concurrent use.
type Observer interface {
	Observe(ctx context.Context, o Outcome) error
}

// An Outcome is one image behind the filters.
type Outcome struct {
	Image *oci.Image // as Images left it
	// Child says that it is one of the images of an index, which share a name.
	Child  bool
	Layers []Layer // lowest first, as in the manifest
}

// A Layer is what became of one layer. Before and After are equal if its
// entries came out as they went in.
type Layer struct {
	Before, After State
}

// A State is a layer on one side of the filters.
type State struct {
	Digest oci.Digest // as stored; Before's is the source descriptor's, which Wrap was given
	DiffID oci.Digest
	Size   int64 // bytes of tar; -1 if the layer wasn't read
}
