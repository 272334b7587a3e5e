package bulk

import (
	"context"
	"iter"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// ordered calls do for the images of src, opt.Images at once, and gives the
// results in listing order. An error of one image comes with its result, and
// the others go on. An error of the listing, or of opening an image's source,
// comes with a zero T; that of the listing comes last.
func ordered[T any](ctx context.Context, src backend.Images, opt Options, do func(context.Context, oci.Source, oci.Item) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		s := &survey[T]{
			src: src, opt: opt, do: do, progress: newProgress(opt.Events, src),
			queue: make(chan chan answer[T], backlog*opt.images()), turns: make(chan turn[T]),
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.read(ctx)
		}()
		defer func() {
			cancel()
			for range s.queue { // whoever waits for room in it
			}
			<-done
		}()
		for a := range s.queue {
			if got := <-a; !yield(got.result, got.err) {
				return
			}
		}
	}
}

// backlog is how many images for each worker may be begun and not given yet: so
// much do the others while one is slow.
const backlog = 8

// A survey is one call of ordered.
type survey[T any] struct {
	src      backend.Images
	opt      Options
	do       func(context.Context, oci.Source, oci.Item) (T, error)
	progress *progress
	queue    chan chan answer[T] // of the images in listing order; its room is the backlog
	turns    chan turn[T]        // the same images, for the workers
}

// A turn is one image to be worked on.
type turn[T any] struct {
	number int
	item   oci.Item
	answer chan answer[T]
}

// An answer is what came of one image, or why not.
type answer[T any] struct {
	result T
	err    error
}

// read lists and has workers call do until the listing or ctx ends. Every
// channel that it puts into the queue gets its answer.
func (s *survey[T]) read(ctx context.Context) {
	defer close(s.queue)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(s.turns)
	for range s.opt.images() { // and not one for each image, whose stack would grow anew each time
		workers.Go(func() {
			for t := range s.turns {
				t.answer <- s.one(ctx, t.number, t.item)
			}
		})
	}
	last := 0
	for item, err := range s.src.Discover(ctx) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			s.answer(listingError(s.src, err))
			s.progress.listingEnded(false)
			return
		}
		last++
		s.progress.listed()
		a := make(chan answer[T], 1)
		s.queue <- a
		s.turns <- turn[T]{last, item, a}
	}
	s.progress.listingEnded(ctx.Err() == nil)
	if err := context.Cause(ctx); err != nil {
		s.answer(err)
	}
}

// answer puts an error into the queue that is no image's.
func (s *survey[T]) answer(err error) {
	a := make(chan answer[T], 1)
	a <- answer[T]{err: err}
	s.queue <- a
}

func (s *survey[T]) one(ctx context.Context, number int, item oci.Item) (a answer[T]) {
	s.progress.started(number, item, oci.Ref{})
	defer s.progress.ended(number, item, oci.Ref{}, nil)
	source, err := s.src.Source(ctx, item)
	if err != nil {
		a.err = oci.Wrap(err, "open source", item.Ref.String(), oci.Descriptor{})
		return a
	}
	a.result, a.err = s.do(ctx, source, item)
	return a
}
