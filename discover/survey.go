package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A survey is one pass over an organisation.
type survey struct {
	im      *quayImages
	pending atomic.Int64 // repositories whose tags are not known yet

	mu      sync.Mutex
	skipped int   // names that are none
	first   error // of skipped
}

// items lists what the query matches, by repository and tag. The first error
// ends the listing: no further repository is looked at, what was found is given,
// and the error comes last. Every goroutine has ended when the sequence has.
func (s *survey) items(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		defer s.warnSkipped()
		names, err := s.repositories(ctx)
		if err != nil {
			yield(oci.Item{}, err)
			return
		}
		if s.pending.Store(int64(len(names))); len(names) == 0 {
			s.done()
		}
		for items, err := range ahead(ctx, parallel(s.im.env), names, s.repository) {
			if err != nil {
				yield(oci.Item{}, incomplete(err))
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
		}
	}
}

func parallel(env backend.Env) int {
	if env.Parallel < 1 {
		return 4
	}
	return env.Parallel
}

// repositories checks the token and gives the names of the repositories that
// may hold matches, sorted. All errors but that of a token which isn't known
// match [oci.ErrIncomplete].
func (s *survey) repositories(ctx context.Context) ([]string, error) {
	q, client := s.im.query, s.im.client
	if q.token != "" {
		// Quay gives a stranger's answers to a token that it doesn't know: a
		// shorter listing, and no error.
		if err := client.VerifyToken(ctx); errors.Is(err, oci.ErrDenied) {
			return nil, err
		} else if err != nil {
			return nil, &broken{err}
		}
	}
	var names []string
	opt := quay.RepositoryOptions{LastModified: !q.period.since.IsZero(), Skipped: s.skip}
	for r, err := range client.Repositories(ctx, q.namespace, opt) {
		if err != nil {
			if q.token == "" && errors.Is(err, oci.ErrDenied) {
				err = fmt.Errorf("%w; it wants an API token: --quay-api-token", err)
			}
			return nil, &broken{err}
		}
		s.im.count(func(l *oci.Listing) { l.Repositories++ })
		if q.wantsRepository(r) {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// repository gives the matches of one repository, by tag.
func (s *survey) repository(ctx context.Context, name string) ([]oci.Item, error) {
	q := s.im.query
	found, err := s.find(ctx, name)
	if quay.NotVisible(err) {
		s.im.count(func(l *oci.Listing) { l.Hidden = append(l.Hidden, q.repository(name)) })
		found, err = matches{}, nil
	}
	if err != nil {
		return nil, err
	}
	items := make([]oci.Item, 0, len(found.tags))
	for _, t := range found.tags {
		items = append(items, oci.Item{
			Ref:     oci.Ref{Registry: q.host, Repository: q.repository(name), Tag: t.Name},
			Desc:    oci.Descriptor{Digest: t.Digest},
			IsIndex: t.IsIndex,
			Bytes:   t.Size,
			Set:     t.Start,
			Expires: t.End,
		})
	}
	s.im.count(func(l *oci.Listing) {
		l.Found += len(items)
		l.Companions += found.companions
	})
	if s.pending.Add(-1) == 0 {
		s.done()
	}
	return items, nil
}

func (s *survey) done() { s.im.count(func(l *oci.Listing) { l.Done = true }) }

// skip takes note of an entry that Quay listed and that is none.
func (s *survey) skip(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped++
	s.first = cmp.Or(s.first, err)
}

func (s *survey) warnSkipped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skipped > 0 {
		s.im.env.Warnf("%s lists entries that can't be: %d left out, the first for: %v", s.im.query.host, s.skipped, s.first)
	}
}

// A broken listing matches [oci.ErrIncomplete] and says its cause alone.
type broken struct{ err error }

func (b *broken) Error() string        { return b.err.Error() }
func (b *broken) Unwrap() error        { return b.err }
func (b *broken) Is(target error) bool { return target == oci.ErrIncomplete }

// incomplete makes err match [oci.ErrIncomplete], and say so: something was
// found before.
func incomplete(err error) error {
	if errors.Is(err, oci.ErrIncomplete) {
		return err
	}
	return fmt.Errorf("%w: %w", oci.ErrIncomplete, err)
}

// window is how many repositories may be known or under way ahead of the one
// that is handed out.
const window = 64

// ahead calls do for each of in, at most n at once and some ahead of the
// reader, and gives the results in in's order. After an error no more calls
// begin; those under way end, their results are given, and the error comes
// last. All calls have returned when the sequence ends.
func ahead[T, R any](ctx context.Context, n int, in []T, do func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var calls sync.WaitGroup
		defer calls.Wait()
		defer cancel()
		more, stop := context.WithCancel(ctx)
		defer stop()
		queue := make(chan chan result, window)
		calls.Go(func() {
			defer close(queue)
			slots := make(chan struct{}, n)
			for _, v := range in {
				select {
				case slots <- struct{}{}:
				case <-more.Done():
				}
				if more.Err() != nil {
					return
				}
				out := make(chan result, 1)
				calls.Go(func() {
					value, err := do(ctx, v)
					if err != nil {
						stop()
					}
					out <- result{value, err}
					<-slots
				})
				select {
				case queue <- out:
				case <-ctx.Done(): // the reader is gone
					return
				}
			}
		})
		var failed error
		for out := range queue {
			r := <-out
			if failed = cmp.Or(failed, r.err); r.err == nil && !yield(r.value, nil) {
				return
			}
		}
		if failed = cmp.Or(failed, ctx.Err()); failed != nil {
			var none R
			yield(none, failed)
		}
	}
}
