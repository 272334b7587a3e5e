package imagetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// A Plain is a folder of images without manifests: each config and each layer's
// tar is a file, named by its digest. It is an [oci.Source] of all of them, by
// their tags and made-up digests, and a listing.
type Plain struct {
	dir string

	mu    sync.Mutex
	items []oci.Item
	named map[string]made // by tag and by digest
	reads map[oci.Digest]int
}

type made struct {
	desc oci.Descriptor
	raw  []byte
}

// NewPlain makes an empty one in the folder dir, which is there.
func NewPlain(dir string) *Plain {
	return &Plain{dir: dir, named: map[string]made{}, reads: map[oci.Digest]int{}}
}

// Add keeps img as repository:tag, its gzip-ed layers as plain tar.
func (p *Plain) Add(repository, tag string, img Image) oci.Item {
	var m ocispec.Manifest
	must(json.Unmarshal(img.Raw, &m))
	up := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []oci.Descriptor{}}
	up.SchemaVersion = 2
	for _, d := range m.Layers {
		raw := img.Blobs[d.Digest]
		if z, err := gzip.NewReader(bytes.NewReader(raw)); err == nil {
			raw, err = io.ReadAll(z)
			must(err)
		}
		up.Layers = append(up.Layers, p.keep(ocispec.MediaTypeImageLayer, raw))
	}
	up.Config = p.keep(ocispec.MediaTypeImageConfig, img.Blobs[m.Config.Digest])
	raw := marshal(up)
	desc := Blob(up.MediaType, raw).Desc
	desc.Annotations = map[string]string{oci.AnnotationSynthetic: "true"}
	p.mu.Lock()
	defer p.mu.Unlock()
	item := oci.Item{Ref: oci.Ref{Registry: "plain.example", Repository: repository, Tag: tag}, Desc: desc, Bytes: -1}
	p.named[item.Ref.Tagged()], p.named[tag], p.named[string(desc.Digest)] = made{desc, raw}, made{desc, raw}, made{desc, raw}
	p.items = append(p.items, item)
	return item
}

func (p *Plain) keep(mt string, raw []byte) oci.Descriptor {
	d := Blob(mt, raw).Desc
	must(os.WriteFile(p.file(d.Digest), raw, 0o644))
	return d
}

func (p *Plain) file(d oci.Digest) string { return filepath.Join(p.dir, d.Encoded()) }

// Damage gives blob d other bytes, as many as it has.
func (p *Plain) Damage(d oci.Digest) {
	raw, err := os.ReadFile(p.file(d))
	must(err)
	raw[len(raw)/2] ^= 1
	must(os.WriteFile(p.file(d), raw, 0o644))
}

// Reads gives how often each blob was opened, and forgets it.
func (p *Plain) Reads() map[oci.Digest]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	reads := p.reads
	p.reads = map[oci.Digest]int{}
	return reads
}

// Resolve implements [oci.Source].
func (p *Plain) Resolve(_ context.Context, ref string) (oci.Descriptor, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.named[ref]
	if !ok {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w", ref, oci.ErrNotFound)
	}
	return m.desc, m.raw, nil
}

// Head implements [oci.Source].
func (p *Plain) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := p.Resolve(ctx, ref)
	return d, err
}

// Fetch implements [oci.Source].
func (p *Plain) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(p.file(d.Digest))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.Digest, oci.ErrNotFound, err.(*fs.PathError).Err) //nolint:errorlint // Open's is one
	}
	p.mu.Lock()
	p.reads[d.Digest]++
	p.mu.Unlock()
	return oci.Verify(f, d), nil
}

// Discover lists what was added.
func (p *Plain) Discover(context.Context) iter.Seq2[oci.Item, error] {
	p.mu.Lock()
	items := slices.Clone(p.items)
	p.mu.Unlock()
	return func(yield func(oci.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Bulk says that there may be any number.
func (p *Plain) Bulk() bool { return true }

// Source gives the folder.
func (p *Plain) Source(context.Context, oci.Item) (oci.Source, error) { return p, nil }

// Close does nothing.
func (p *Plain) Close() error { return nil }

var _ oci.Source = (*Plain)(nil)
