package bulk

import (
	"context"
	"slices"
	"sync"
)

// slots are how many transfers may run at once. Who waits for some gets them
// by size, the largest first, since a large blob that begins last is waited for
// alone at the end of a run.
type slots struct {
	most int // that there are

	mu      sync.Mutex
	free    int
	waiting []*waiter // the next one first
}

// A waiter wants n slots for size bytes.
type waiter struct {
	n    int
	size int64
	got  chan struct{} // closed once they are the waiter's
}

func newSlots(n int) *slots { return &slots{most: n, free: n} }

// acquire takes n slots for size bytes, all of them in one go: who took some and
// waited for the rest could wait for somebody who does the same. More than there
// are at all means all. What is acquired is released with the same n.
//
// Nobody overtakes one that is larger, also not where fewer slots would do: else
// who wants many might never have them. Those of one size go in the order of
// their coming. The error is ctx's cause.
func (s *slots) acquire(ctx context.Context, n int, size int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w := &waiter{n: min(n, s.most), size: size, got: make(chan struct{})}
	s.mu.Lock()
	at, _ := slices.BinarySearchFunc(s.waiting, w, func(before, w *waiter) int {
		if before.size >= w.size {
			return -1
		}
		return 1
	})
	s.waiting = slices.Insert(s.waiting, at, w)
	s.hand()
	s.mu.Unlock()
	select {
	case <-w.got:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.waiting, w); at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
	} else {
		s.free += w.n // they came at the same moment
	}
	s.hand() // the next may have waited for w alone
	return context.Cause(ctx)
}

// release gives back what an acquire of n took.
func (s *slots) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free += min(n, s.most); s.free > s.most {
		panic("bulk: slots were released that nobody held")
	}
	s.hand()
}

// hand gives free slots to those whose turn it is. s.mu is held.
func (s *slots) hand() {
	for len(s.waiting) > 0 && s.waiting[0].n <= s.free {
		w := s.waiting[0]
		s.waiting = slices.Delete(s.waiting, 0, 1)
		s.free -= w.n
		close(w.got)
	}
}
