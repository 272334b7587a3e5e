package archive

import (
	"context"
	"iter"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// partial is an archive's layout. docker save with the containerd store writes
// the index of an image whole, and below it only the platforms that it holds.
type partial struct{ layout.Images }

// Discover is that of the layout, with an index that lacks some of its images
// replaced by the one image that is there.
func (p *partial) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for item, err := range p.Images.Discover(ctx) {
			if err == nil {
				item = p.present(ctx, item)
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// present gives item with what there is of it. Where that is more than one image
// and less than all, it stays as it is, and says so.
func (p *partial) present(ctx context.Context, item oci.Item) oci.Item {
	d, raw, err := p.Manifest(item.Desc)
	if err != nil {
		return item // to say why is for whoever copies it
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil || !m.IsIndex() {
		return item
	}
	var there []oci.Descriptor
	whole := true
	for _, child := range m.Manifests {
		switch {
		case p.Walk(ctx, child, func(b oci.Descriptor, _ bool) error { return p.Stat(b) }) != nil:
			whole = false
		case child.Platform == nil || child.Platform.OS != "unknown": // which attestations have
			there = append(there, child)
		}
	}
	switch {
	case whole || len(there) == 0:
		return item
	case len(there) > 1:
		p.warnf("%s: the archive has only some of the platforms of %s; --platform chooses one", p.Path, item.Ref)
		return item
	}
	p.warnf("%s: the archive has one of the %d manifests of %s: %s", p.Path, len(m.Manifests), item.Ref, there[0].Digest)
	item.Desc = oci.Descriptor{MediaType: there[0].MediaType, Digest: there[0].Digest, Size: there[0].Size, Annotations: item.Desc.Annotations}
	item.IsIndex = oci.IsIndexType(item.Desc.MediaType)
	if _, raw, err := p.Manifest(item.Desc); err == nil {
		if m, err := oci.ParseManifest(item.Desc.MediaType, raw); err == nil && !m.IsIndex() {
			item.Bytes = m.Bytes()
		}
	}
	return item
}

func (p *partial) warnf(format string, args ...any) {
	if p.Warn != nil {
		p.Warn(format, args...)
	}
}
