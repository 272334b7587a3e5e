package search

import (
	"archive/tar"
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// Options of a [Searcher]. The zero value is ready.
type Options struct {
	// Layers is how many layers are read at once. 0 means 4.
	Layers int
	// MaxKept is about how many bytes of matches are kept in memory: a layer that
	// would go over it fails. 0 means 1 GiB.
	MaxKept int64
	// Layer bounds what layers may grow to.
	Layer layer.Options
}

// A Searcher answers one query for the images of a run. It is safe for
// concurrent use.
type Searcher struct {
	query   Query
	content *content // nil where nobody asks
	opt     Options
	seed    maphash.Seed // a secret, so that nobody can make paths collide
	slots   *semaphore.Weighted
	layers  filetree.Once[oci.Digest, *found]
	configs filetree.Once[oci.Digest, *filetree.Config]
	kept    atomic.Int64
	read    atomic.Int64
}

// found is what there is in one layer.
type found struct {
	matches []Match
	cover   cover // nil where nobody asks what is hidden
}

// New makes a searcher for one run.
func New(q Query, opt Options) *Searcher {
	if opt.Layers < 1 {
		opt.Layers = 4
	}
	if opt.MaxKept < 1 {
		opt.MaxKept = 1 << 30
	}
	return &Searcher{query: q, content: newContent(q.Content), opt: opt, seed: maphash.MakeSeed(), slots: semaphore.NewWeighted(int64(opt.Layers))}
}

// Read counts the distinct layers that were read to their end so far.
func (s *Searcher) Read() int64 { return s.read.Load() }

// Image searches one image. ref names it in errors. A layer that can't be read
// is an error in the result, and the others are searched all the same.
func (s *Searcher) Image(ctx context.Context, src oci.Source, ref string, img filetree.Image) Result {
	r := Result{Image: img, query: &s.query, hash: s.hash, layers: make([]*found, len(img.Layers))}
	errs := make([]error, len(img.Layers)+1)
	var wg sync.WaitGroup
	if s.query.Details {
		wg.Go(func() {
			var err error
			r.Config, err = s.configs.Get(ctx, img.Config.Digest, func() (*filetree.Config, error) { return filetree.ReadConfig(ctx, src, img) })
			errs[len(img.Layers)] = failed(err, "read config", ref, img.Config)
		})
	}
	for i, d := range img.Layers {
		if !img.HoldsFiles(d) || ctx.Err() != nil {
			continue
		}
		wg.Go(func() {
			var err error
			r.layers[i], err = s.layers.Get(ctx, d.Digest, func() (*found, error) { return s.layer(ctx, src, d) })
			errs[i] = failed(err, "search layer", ref, d)
		})
	}
	wg.Wait()
	told := map[oci.Digest]bool{}
	for i, err := range errs {
		if err == nil || i < len(img.Layers) && told[img.Layers[i].Digest] {
			continue
		}
		if i < len(img.Layers) {
			told[img.Layers[i].Digest] = true
		}
		r.Failed = append(r.Failed, err)
	}
	if err := context.Cause(ctx); err != nil {
		r.Failed = []error{err}
	}
	return r
}

// failed names image and blob in err, also where another image met it first.
func failed(err error, op, ref string, d oci.Descriptor) error {
	if err == nil {
		return nil
	}
	return &oci.Error{Op: op, Ref: ref, Desc: d, Err: err}
}

func (s *Searcher) hash(path string) uint64 { return maphash.String(s.seed, path) &^ coverBits }

// layer reads d.
func (s *Searcher) layer(ctx context.Context, src oci.Source, d oci.Descriptor) (*found, error) {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	defer s.slots.Release(1)
	p := &pass{Searcher: s, found: &found{}, last: map[uint64]int{}}
	opt := s.opt.Layer
	opt.NoDiffID = true
	_, err := filetree.Walk(ctx, src, d, opt, p.visit)
	if err != nil {
		s.kept.Add(-p.kept)
		return nil, err
	}
	s.read.Add(1)
	p.found.cover = p.found.cover.seal()
	return p.found, nil
}

// A pass is the reading of one layer.
type pass struct {
	*Searcher
	found *found
	last  map[uint64]int // the match at a path, by its hash
	kept  int64
}

func (p *pass) visit(e *oci.Entry) error {
	h := e.Header
	name := entryName(h)
	path := filetree.Clean(name)
	if p.query.hides() {
		if err := p.cover(h, path); err != nil {
			return err
		}
	}
	if !p.query.takes(h, name) {
		return nil
	}
	if p.query.readsContent() {
		if ok, err := p.holds(e.Body); !ok || err != nil {
			return err
		}
	}
	m := newMatch(h)
	if p.query.Visible && m.Whiteout() {
		return nil
	}
	if p.query.hides() {
		p.last[p.hash(path)] = len(p.found.matches)
	}
	p.found.matches = append(p.found.matches, m)
	return p.keep(130 + int64(len(m.Path)+len(m.Link)))
}

// cover notes what the entry at path hides: of layers below, and of this one
// what came before at the same path.
func (p *pass) cover(h *tar.Header, path string) error {
	hash := p.hash(path)
	if i, ok := p.last[hash]; ok {
		p.found.matches[i].late = true
	}
	kind := uint64(coversAll)
	switch mark, about := filetree.MarkOf(path); {
	case mark == filetree.MarkOther:
		return nil
	case mark == filetree.MarkWhiteout:
		hash, kind = p.hash(about), coversGone
	case mark == filetree.MarkOpaque:
		hash, kind = p.hash(about), coversOpaque
	case h.Typeflag == tar.TypeDir:
		kind = coversDir
	}
	p.found.cover = append(p.found.cover, hash|kind)
	return p.keep(8)
}

// keep counts bytes that stay in memory.
func (p *pass) keep(n int64) error {
	p.kept += n
	if p.Searcher.kept.Add(n) > p.opt.MaxKept {
		return fmt.Errorf("search: %w: matches of over %d MiB; search for less", oci.ErrTooLarge, p.opt.MaxKept>>20)
	}
	return nil
}
