package bulk

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxNested is how deep an index may hold indexes: as deep as they are copied.
	maxNested = 4
	// maxSubjects bounds the manifests of one image that are asked about: as many as
	// are copied.
	maxSubjects = 10_000
	// maxRoots is how many bytes of manifests may be kept until their images are
	// copied: 8 MiB. What is beyond is read again.
	maxRoots = 8 << 20
)

// lookUp finds what is about p's image. An error is kept for whoever opens it.
func (a *accompanied) lookUp(ctx context.Context, p *party) {
	src, err := a.Images.Source(ctx, p.item)
	if err != nil || placeOf(src) == nil {
		return // to open it again says so again
	}
	r := a.repository(p.item, src)
	var subjects []oci.Digest
	if err = a.readRoot(ctx, src, p); err == nil {
		subjects, err = a.subjects(ctx, src, p)
	}
	if err == nil {
		p.found, err = r.finder.Find(ctx, subjects)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, errNoImage) {
		return
	}
	a.count(func() {
		a.failed[p.item.Ref] = &oci.Error{Op: "look for companions of", Ref: p.item.Ref.String(), Err: err}
	})
}

// errNoImage means that the image itself can't be had, which who copies it says best.
var errNoImage = errors.New("there is no image")

// readRoot pins p's image, and reads its manifest where nothing else says whether
// it is an index. A listing that counts an image's bytes says so.
func (a *accompanied) readRoot(ctx context.Context, src oci.Source, p *party) error {
	pin, mt := p.item.Desc.Digest, p.item.Desc.MediaType
	if pin != "" && !p.item.IsIndex && (p.item.Bytes >= 0 || mt != "" && !oci.IsIndexType(mt)) {
		return nil
	}
	ref := string(pin)
	if pin == "" {
		ref = p.item.Ref.Reference()
	}
	desc, raw, err := src.Resolve(ctx, ref)
	if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) {
		return errNoImage
	}
	if err != nil {
		return err
	}
	p.item.Desc, p.item.IsIndex, p.raw = desc, oci.IsIndexType(desc.MediaType), raw
	a.keepRoot(p.item, root{desc, raw})
	return nil
}

// keepRoot keeps what was read of item for who copies it.
func (a *accompanied) keepRoot(item oci.Item, r root) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := pinned{item.Ref.Name(), r.desc.Digest}
	if _, there := a.roots[key]; !there && a.held+len(r.raw) <= maxRoots {
		a.roots[key] = r
		a.held += len(r.raw)
	}
}

// takeRoot gives what is kept of item, once.
func (a *accompanied) takeRoot(item oci.Item) (root, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := pinned{item.Ref.Name(), item.Desc.Digest}
	r, ok := a.roots[key]
	a.held -= len(r.raw)
	delete(a.roots, key)
	return r, ok
}

// subjects gives the digests of p's image and of all manifests below it.
func (a *accompanied) subjects(ctx context.Context, src oci.Source, p *party) ([]oci.Digest, error) {
	all := []oci.Digest{p.item.Desc.Digest}
	if !p.item.IsIndex {
		return all, nil
	}
	seen := map[oci.Digest]bool{p.item.Desc.Digest: true}
	var below func(desc oci.Descriptor, raw []byte, depth int) error
	below = func(desc oci.Descriptor, raw []byte, depth int) error {
		if depth == maxNested {
			return fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxNested)
		}
		m, err := oci.ParseManifest(desc.MediaType, raw)
		if err != nil {
			return err
		}
		for _, child := range m.Manifests {
			if seen[child.Digest] {
				continue
			}
			if len(all) > maxSubjects { // the image itself not counted
				return fmt.Errorf("%w: more than %d manifests", oci.ErrTooLarge, maxSubjects)
			}
			seen[child.Digest] = true
			all = append(all, child.Digest)
			if !oci.IsIndexType(child.MediaType) {
				continue
			}
			desc, raw, err := src.Resolve(ctx, string(child.Digest))
			if err != nil {
				return err
			}
			if err := below(desc, raw, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	err := below(p.item.Desc, p.raw, 0)
	p.raw = nil
	return all, err
}

// placeOf gives src as a place that companions are looked for in; nil if it knows
// neither tags nor referrers.
func placeOf(src oci.Source) companion.Place {
	tags, listsTags := src.(oci.TagLister)
	referrers, listsReferrers := src.(oci.ReferrerLister)
	if !listsTags && !listsReferrers {
		return nil
	}
	return sourcePlace{src, tags, referrers}
}

// A sourcePlace is a source; what is nil of it it can't say.
type sourcePlace struct {
	oci.Source
	tags      oci.TagLister
	referrers oci.ReferrerLister
}

func (s sourcePlace) Tags(ctx context.Context) iter.Seq2[string, error] {
	if s.tags == nil {
		return unsupported[string]
	}
	return s.tags.Tags(ctx)
}

func (s sourcePlace) Referrers(ctx context.Context, subject oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	if s.referrers == nil {
		return unsupported[oci.Descriptor]
	}
	return s.referrers.Referrers(ctx, subject, artifactType)
}

func unsupported[T any](yield func(T, error) bool) {
	var zero T
	yield(zero, oci.ErrUnsupported)
}

// A pinned is a manifest of a repository.
type pinned struct {
	repository string
	digest     oci.Digest
}

// A root is an image's manifest.
type root struct {
	desc oci.Descriptor
	raw  []byte
}

// Source opens the place of item. What was read of the image isn't read again.
func (a *accompanied) Source(ctx context.Context, item oci.Item) (oci.Source, error) {
	a.mu.Lock()
	err := a.failed[item.Ref]
	a.mu.Unlock()
	read, known := a.takeRoot(item)
	if err != nil {
		return nil, err
	}
	src, err := a.Images.Source(ctx, item)
	if err != nil || !known {
		return src, err
	}
	if l, ok := src.(oci.Lodger); ok {
		return struct {
			rooted
			oci.Lodger
		}{rooted{src, read}, l}, nil
	}
	return src, nil
}

// rooted is a source of which a manifest is known.
type rooted struct {
	oci.Source
	root root
}

// Resolve implements [oci.Source].
func (s rooted) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	if ref == string(s.root.desc.Digest) {
		return s.root.desc, s.root.raw, nil
	}
	return s.Source.Resolve(ctx, ref)
}
