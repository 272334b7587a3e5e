package companion

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/oci"
)

// maxProbes is how many tags are asked for one by one in one place. Whoever needs
// more asks for the list, of which one answer holds 100 tags or more.
const maxProbes = 30

// A Finder looks for companions in one place, again and again: tags are asked for
// one by one until that would cost more than 30 requests in all, and then listed,
// once. Place must be set. It is safe for concurrent use and must not be copied.
type Finder struct {
	Place Place
	// Listed are the place's tags. nil says that they aren't known.
	Listed []string
	// Parallel is how many requests a search makes at once. 0 means 4.
	Parallel int

	mu     sync.Mutex
	probes int             // tags that were asked for
	tags   map[string]bool // cosign's, of the list; nil without one
	unable bool            // the place lists no tags
	// lonely is set once the place said that it knows no referrers.
	lonely atomic.Bool
}

// about is what is about one digest.
type about struct {
	tags      []Companion
	referrers []Companion
}

// ask gives what is about each of digests, up to about room referrers. An error
// comes with what was found.
func (f *Finder) ask(ctx context.Context, digests []oci.Digest, room int) ([]about, error) {
	answers := make([]about, len(digests))
	if err := f.candidates(ctx, digests, answers); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(max(f.Parallel, 0), 4))
	for _, a := range answers {
		for i := range a.tags {
			g.Go(func() error { return f.head(gctx, &a.tags[i]) })
		}
	}
	var count atomic.Int64
	for i, d := range digests {
		g.Go(func() error {
			if f.lonely.Load() {
				return nil
			}
			for desc, err := range f.Place.Referrers(gctx, d, "") {
				switch {
				case errors.Is(err, oci.ErrUnsupported):
					f.lonely.Store(true)
					return nil
				case err != nil:
					return err
				case count.Add(1) > int64(room):
					return tooMany(room)
				}
				if err := oci.ValidDigest(desc.Digest); err != nil {
					return err
				}
				answers[i].referrers = append(answers[i].referrers, Companion{Subject: d, Desc: desc, Kind: Referrer})
			}
			return nil
		})
	}
	err := g.Wait()
	for i := range answers {
		absent := func(c Companion) bool { return c.Desc.Digest == "" }
		answers[i].tags = slices.DeleteFunc(answers[i].tags, absent)
	}
	return answers, err
}

// head sets what c's tag means; nothing if there is no such tag.
func (f *Finder) head(ctx context.Context, c *Companion) error {
	desc, err := f.Place.Head(ctx, c.Tag)
	if errors.Is(err, oci.ErrNotFound) {
		return nil
	}
	c.Desc = desc
	return err
}

// candidates sets the tags that each of digests may have companions under. It
// lists the place's if to try them all would cost more.
func (f *Finder) candidates(ctx context.Context, digests []oci.Digest, answers []about) error {
	f.mu.Lock() // others want the same list
	defer f.mu.Unlock()
	if f.tags == nil && f.Listed != nil {
		f.tags = map[string]bool{}
		for _, tag := range f.Listed {
			f.note(tag)
		}
	}
	probes := f.probes + len(suffixes)*len(digests)
	if f.tags == nil && probes > maxProbes && !f.unable {
		if err := f.list(ctx); err != nil {
			return err
		}
	}
	if f.tags == nil {
		f.probes = probes
	}
	for i, d := range digests {
		for _, tag := range Tags(d) {
			if f.tags == nil || f.tags[tag] {
				_, kind, _ := ParseTag(tag)
				answers[i].tags = append(answers[i].tags, Companion{Subject: d, Tag: tag, Kind: kind})
			}
		}
	}
	return nil
}

// list asks for the place's tags. A place that has none, or can't say, is no error.
func (f *Finder) list(ctx context.Context) error {
	f.tags = map[string]bool{}
	for tag, err := range f.Place.Tags(ctx) {
		switch {
		case errors.Is(err, oci.ErrUnsupported):
			f.tags, f.unable = nil, true
			return nil
		case errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrIncomplete):
			return nil
		case err != nil:
			f.tags = nil
			return err
		}
		f.note(tag)
	}
	return nil
}

// note keeps tag if it is cosign's: of a repository's tags few are.
func (f *Finder) note(tag string) {
	if _, _, ok := ParseTag(tag); ok {
		f.tags[tag] = true
	}
}
