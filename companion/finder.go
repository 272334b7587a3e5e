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

// A Finder looks for companions in one place, again and again, and asks nothing
// twice. Tags are asked for one by one until that would cost more than 30 requests
// in all, and then listed, once. Place must be set. It is safe for concurrent use
// and must not be copied.
//
// It keeps what it found, and nothing of tags that aren't cosign's.
type Finder struct {
	Place Place
	// Listed are the place's tags. nil says that they aren't known.
	Listed []string
	// Parallel is how many requests a search makes at once. 0 means 4.
	Parallel int

	mu      sync.Mutex
	answers map[oci.Digest]*answer
	probes  int             // tags that were asked for
	tags    map[string]bool // cosign's, of the list; nil without one
	unable  bool            // the place lists no tags
	lonely  atomic.Bool     // it knows no referrers
}

// An answer is what is about one digest. Who asks holds it locked.
type answer struct {
	sync.Mutex
	known     bool // the rest is set
	tags      []Companion
	referrers []Companion
}

// ask gives what is about each of digests, in their order, up to about room
// referrers. An error comes with what was found besides.
func (f *Finder) ask(ctx context.Context, digests []oci.Digest, room int) ([]Companion, error) {
	answers, err := f.prepare(ctx, digests)
	if err != nil {
		return nil, err
	}
	parallel := cmp.Or(max(f.Parallel, 0), 4)
	c := call{f: f, slots: make(chan struct{}, parallel), room: int64(room), found: make([][]Companion, len(digests))}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, d := range digests {
		g.Go(func() error {
			a := answers[i]
			a.Lock()
			defer a.Unlock()
			var err error
			if !a.known {
				err = c.ask(gctx, d, a)
				a.known = err == nil
			}
			c.found[i] = slices.Concat(a.tags, a.referrers)
			return err
		})
	}
	err = g.Wait()
	return slices.Concat(c.found...), err
}

// prepare gives the answers of digests, perhaps still unknown. It lists the place's
// tags if to try those that are yet to be tried would cost more.
func (f *Finder) prepare(ctx context.Context, digests []oci.Digest) ([]*answer, error) {
	f.mu.Lock() // others want the same list
	defer f.mu.Unlock()
	if f.answers == nil {
		f.answers = map[oci.Digest]*answer{}
	}
	if f.tags == nil && f.Listed != nil {
		f.tags = map[string]bool{}
		for _, tag := range f.Listed {
			f.note(tag)
		}
	}
	probes := f.probes
	for _, d := range digests {
		if f.answers[d] == nil {
			probes += len(suffixes)
		}
	}
	if f.tags == nil && probes > maxProbes && !f.unable {
		if err := f.list(ctx); err != nil {
			return nil, err
		}
	}
	if f.tags == nil {
		f.probes = probes
	}
	answers := make([]*answer, len(digests))
	for i, d := range digests {
		if f.answers[d] == nil {
			f.answers[d] = &answer{}
		}
		answers[i] = f.answers[d]
	}
	return answers, nil
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

// candidates gives the tags that d may have companions under.
func (f *Finder) candidates(d oci.Digest) []Companion {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Companion
	for _, tag := range Tags(d) {
		if f.tags == nil || f.tags[tag] {
			_, kind, _ := ParseTag(tag)
			all = append(all, Companion{Subject: d, Tag: tag, Kind: kind})
		}
	}
	return all
}

// A call is one round of questions.
type call struct {
	f     *Finder
	slots chan struct{} // of requests
	room  int64         // for referrers
	count atomic.Int64  // of them
	found [][]Companion
}

// ask asks what is about d.
func (c *call) ask(ctx context.Context, d oci.Digest, a *answer) error {
	a.tags, a.referrers = c.f.candidates(d), nil
	g, gctx := errgroup.WithContext(ctx)
	for i := range a.tags {
		g.Go(func() error { return c.request(gctx, func() error { return c.f.head(gctx, &a.tags[i]) }) })
	}
	g.Go(func() error {
		return c.request(gctx, func() (err error) {
			a.referrers, err = c.referrers(gctx, d)
			return err
		})
	})
	err := g.Wait()
	a.tags = slices.DeleteFunc(a.tags, func(t Companion) bool { return t.Desc.Digest == "" })
	return err
}

// request does one of the requests that may be made at once.
func (c *call) request(ctx context.Context, do func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// head sets what c's tag means; nothing if there is no such tag.
func (f *Finder) head(ctx context.Context, c *Companion) error {
	desc, err := f.Place.Head(ctx, c.Tag)
	if errors.Is(err, oci.ErrNotFound) {
		return nil
	}
	if err == nil {
		c.Desc = desc
	}
	return err
}

// referrers gives what has d for its subject.
func (c *call) referrers(ctx context.Context, d oci.Digest) ([]Companion, error) {
	if c.f.lonely.Load() {
		return nil, nil
	}
	var all []Companion
	for desc, err := range c.f.Place.Referrers(ctx, d, "") {
		switch {
		case errors.Is(err, oci.ErrUnsupported):
			c.f.lonely.Store(true)
			return nil, nil
		case err != nil:
			return all, err
		case c.count.Add(1) > c.room:
			return all, tooMany(int(c.room))
		}
		if err := oci.ValidDigest(desc.Digest); err != nil {
			return all, err
		}
		all = append(all, Companion{Subject: d, Desc: desc, Kind: Referrer})
	}
	return all, nil
}
