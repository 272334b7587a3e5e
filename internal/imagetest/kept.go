package imagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A Kept is a set of images with their manifests, in memory. It is an [oci.Source]
// of all of them, by their tags and digests, and a listing. Tags must be different.
type Kept struct {
	// Wrap, if not nil, gives what is read of blob d in the place of rc. Set it
	// while nothing is read.
	Wrap func(ctx context.Context, d oci.Descriptor, rc io.ReadCloser) io.ReadCloser

	mu    sync.Mutex
	items []oci.Item
	named map[string]Image // by tag and by digest
	blobs map[oci.Digest][]byte
	reads map[oci.Digest]int
}

// NewKept makes an empty one.
func NewKept() *Kept {
	return &Kept{named: map[string]Image{}, blobs: map[oci.Digest][]byte{}, reads: map[oci.Digest]int{}}
}

// Add keeps img as registry/repository:tag.
func (k *Kept) Add(registry, repository, tag string, img Image) oci.Item {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.named[tag] = img
	k.keep(img)
	item := oci.Item{Ref: oci.Ref{Registry: registry, Repository: repository, Tag: tag}, Desc: img.Desc, IsIndex: len(img.Children) > 0, Bytes: -1}
	k.items = append(k.items, item)
	return item
}

func (k *Kept) keep(img Image) {
	k.named[string(img.Desc.Digest)] = img
	for d, b := range img.Blobs {
		k.blobs[d] = b
	}
	for _, c := range img.Children {
		k.keep(c)
	}
}

// Reads gives how often each blob was opened, and forgets it.
func (k *Kept) Reads() map[oci.Digest]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	reads := k.reads
	k.reads = map[oci.Digest]int{}
	return reads
}

// Resolve implements [oci.Source].
func (k *Kept) Resolve(_ context.Context, ref string) (oci.Descriptor, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	img, ok := k.named[ref]
	if !ok {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w", ref, oci.ErrNotFound)
	}
	return img.Desc, img.Raw, nil
}

// Head implements [oci.Source].
func (k *Kept) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := k.Resolve(ctx, ref)
	return d, err
}

// Fetch implements [oci.Source].
func (k *Kept) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	k.mu.Lock()
	b, ok := k.blobs[d.Digest]
	k.reads[d.Digest]++
	k.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("%s: %w", d.Digest, oci.ErrNotFound)
	}
	rc := io.NopCloser(bytes.NewReader(b))
	if k.Wrap != nil {
		return k.Wrap(ctx, d, rc), nil
	}
	return rc, nil
}

// Discover lists what was added.
func (k *Kept) Discover(context.Context) iter.Seq2[oci.Item, error] {
	k.mu.Lock()
	items := slices.Clone(k.items)
	k.mu.Unlock()
	return func(yield func(oci.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Bulk reports whether there are several.
func (k *Kept) Bulk() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.items) > 1
}

// Source gives the set itself.
func (k *Kept) Source(context.Context, oci.Item) (oci.Source, error) { return k, nil }

// Close does nothing.
func (k *Kept) Close() error { return nil }

var _ oci.Source = (*Kept)(nil)
