package bulk

import (
	"cmp"
	"context"
	"iter"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// WithCompanions gives images with what is about each right behind it, and the
// options that [Copy] is to have with them: cosign's signatures, attestations and
// SBOMs, referrers, and what is about those; of an index's images too. They go
// where their image goes: into its repository, under their own tag or digest.
//
// They are looked for in the image's repository while images before it are copied,
// where the source can say. That costs a request for the referrers of each
// manifest, up to 30 for tags or one listing for each repository, and the manifest
// itself where only that says whether it is an index; it isn't read again then. An
// image whose companions can't be found out fails by itself.
//
// It returns an error matching [oci.ErrUsage] where companions would be void or
// have no place: with platforms, filters or a compression that make another image
// of it, and in places that keep images alone.
func WithCompanions(images backend.Images, dst oci.Target, opt Options) (backend.Images, Options, error) {
	if err := mayHaveCompanions(dst, opt); err != nil {
		return nil, opt, err
	}
	a := &accompanied{Images: images, opt: opt}
	own := opt.Name
	opt.Name = func(item oci.Item) (oci.Ref, error) {
		if item.To != (oci.Ref{}) || own == nil {
			return cmp.Or(item.To, item.Ref), nil
		}
		return own(item)
	}
	if l, ok := images.(oci.Lister); ok {
		return &accompaniedLister{a, l}, opt, nil
	}
	return a, opt, nil
}

func mayHaveCompanions(dst oci.Target, opt Options) error {
	t := dst.Traits()
	switch {
	case opt.Filters.Changes:
		return oci.Usage("companions are about images as they are; with filters that change them they would be void")
	case len(opt.Platforms) > 0:
		return oci.Usage("companions are about images as they are; with platforms chosen of them they would be void")
	case !t.Index:
		return oci.Usage("the destination keeps images alone; companions can go to a registry, an ocidir:// or an oci-archive://")
	case t.Compression != "" && t.Compression != "keep":
		return oci.Usage("companions are about images as they are; with another compression they would be void")
	case !t.Many:
		return oci.Usage("the destination takes one image, and companions are further ones; leave :REF away")
	}
	if s, ok := dst.(oci.Spread); ok && !together(s) {
		return oci.Usage("with {tag} or {digest} in the path, an image and its companions would go to different places; leave them away")
	}
	return nil
}

// together reports whether images of one repository go to one place.
func together(s oci.Spread) bool {
	place := func(tag string, d oci.Digest) string {
		p, err := s.Place(oci.Ref{Registry: "registry.example", Repository: "some/app", Tag: tag, Digest: d})
		if err != nil {
			return tag // what is wrong with it is for the images to say
		}
		return p
	}
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
	return place("a", "sha256:0"+hex) == place("b", "sha256:1"+hex)
}

// accompanied are images with their companions.
type accompanied struct {
	backend.Images
	opt Options

	mu     sync.Mutex
	repos  map[string]*repository
	recent []string          // of repos, oldest first
	roots  map[pinned]root   // of images that haven't been opened
	held   int               // bytes of roots
	failed map[oci.Ref]error // images whose companions couldn't be found out
	added  int               // companions that were given
	ended  bool              // the listing, and all of it was given
}

// A repository is what is known of one that images are in.
type repository struct {
	finder *companion.Finder // nil where the source can't say
	given  map[oci.Ref]bool  // companions that were given, by their names at the destination
}

// maxRepositories is how many are remembered. A listing goes by repository; that
// of a file may go back and forth.
const maxRepositories = 64

// repository gives that of item, whose source is src, which nil leaves out.
func (a *accompanied) repository(item oci.Item, src oci.Source) *repository {
	name := item.Ref.Name()
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.repos[name]
	if r == nil {
		if len(a.recent) == maxRepositories {
			delete(a.repos, a.recent[0])
			a.recent = a.recent[1:]
		}
		r = &repository{given: map[oci.Ref]bool{}}
		a.repos[name] = r
		a.recent = append(a.recent, name)
	}
	if p := placeOf(src); r.finder == nil && p != nil {
		r.finder = &companion.Finder{Place: p, Parallel: a.opt.blobs()}
	}
	return r
}

// A party is an image whose companions are looked for.
type party struct {
	item  oci.Item
	err   error  // that ended the listing
	raw   []byte // of an index, until it was read
	found []companion.Companion
	ready chan struct{} // closed once found is set
}

// Discover implements [oci.Discoverer]. Of some images ahead the companions are
// looked for at once.
func (a *accompanied) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		a.mu.Lock()
		a.repos, a.recent, a.roots, a.failed = map[string]*repository{}, nil, map[pinned]root{}, map[oci.Ref]error{}
		a.added, a.held, a.ended = 0, 0, false
		a.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		queue := make(chan *party, a.opt.images())
		var lookups sync.WaitGroup
		lookups.Go(func() { a.list(ctx, queue, &lookups) })
		defer lookups.Wait()
		defer cancel()
		for p := range queue {
			<-p.ready
			if !a.give(p, yield) {
				return
			}
		}
		a.count(func() { a.ended = ctx.Err() == nil })
	}
}

// list puts the images into queue, and has their companions looked for.
func (a *accompanied) list(ctx context.Context, queue chan<- *party, lookups *sync.WaitGroup) {
	defer close(queue)
	for item, err := range a.Images.Discover(ctx) {
		p := &party{item: item, err: err, ready: make(chan struct{})}
		select {
		case queue <- p:
		case <-ctx.Done():
			return
		}
		lookups.Go(func() {
			defer close(p.ready)
			if p.err == nil {
				a.lookUp(ctx, p)
			}
		})
	}
}

func (a *accompanied) count(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// give hands out p's image and what is about it. What was given already, or the
// listing gives itself, comes once for each place that it goes to.
func (a *accompanied) give(p *party, yield func(oci.Item, error) bool) bool {
	if p.err != nil {
		return yield(p.item, p.err)
	}
	to, err := a.opt.name(p.item)
	if err != nil {
		return yield(p.item, nil) // who copies it says so; what is about it has no place either
	}
	r := a.repository(p.item, nil)
	if _, _, ok := companion.ParseTag(p.item.Ref.Tag); ok || p.item.Ref.Tag == "" {
		own := to
		if own.Tag != "" {
			own.Digest = ""
		}
		if r.given[own] {
			a.count(func() { a.added-- }) // it was counted twice
			a.takeRoot(p.item)
			return true
		}
		r.given[own] = true
	}
	var items []oci.Item
	for _, c := range p.found {
		if item := companionItem(p.item, to, c); !r.given[item.To] {
			r.given[item.To] = true
			items = append(items, item)
		}
	}
	a.count(func() { a.added += len(items) })
	if !yield(p.item, nil) {
		return false
	}
	for _, item := range items {
		if !yield(item, nil) {
			return false
		}
	}
	return true
}

// companionItem makes an image of c, which is about that of subject, which goes to to.
func companionItem(subject oci.Item, to oci.Ref, c companion.Companion) oci.Item {
	item := oci.Item{Ref: subject.Ref, Desc: c.Desc, IsIndex: oci.IsIndexType(c.Desc.MediaType), Bytes: -1, To: to}
	item.Ref.Tag, item.Ref.Digest = c.Tag, ""
	item.Desc.Annotations = nil
	if item.To.Tag, item.To.Digest = c.Tag, ""; c.Tag == "" {
		item.To.Digest = c.Desc.Digest
	}
	return item
}

// accompaniedLister counts as well.
type accompaniedLister struct {
	*accompanied
	lister oci.Lister
}

// Listing implements [oci.Lister]: what was found so far, companions among it.
func (a *accompaniedLister) Listing() oci.Listing {
	l := a.lister.Listing()
	a.mu.Lock()
	defer a.mu.Unlock()
	l.Found += a.added
	l.Done = l.Done && a.ended
	l.Companions = 0 // they are among the images
	return l
}
