package bulk

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A claim is one acquire of a test.
type claim struct {
	n      int
	size   int64
	cancel context.CancelFunc
	err    error
}

// claims are acquired in the order in which they are made, one after the other.
type claims struct {
	*slots
	mu  sync.Mutex
	got []int64 // sizes, in the order in which slots were had
}

func (c *claims) claim(t *testing.T, n int, size int64) *claim {
	one := &claim{n: n, size: size}
	var ctx context.Context
	ctx, one.cancel = context.WithCancel(t.Context())
	go func() {
		one.err = c.acquire(ctx, n, size)
		c.mu.Lock()
		defer c.mu.Unlock()
		if one.err == nil {
			c.got = append(c.got, size)
		}
	}()
	synctest.Wait()
	return one
}

func (c *claims) give(n int) {
	c.release(n)
	synctest.Wait()
}

func withSlots(t *testing.T, n int, do func(t *testing.T, c *claims)) {
	synctest.Test(t, func(t *testing.T) {
		c := &claims{slots: newSlots(n)}
		do(t, c)
		if c.free != n || len(c.waiting) != 0 {
			t.Errorf("%d of %d slots are free and %d wait at the end", c.free, n, len(c.waiting))
		}
	})
}

func (c *claims) want(t *testing.T, sizes ...int64) {
	t.Helper()
	if !slices.Equal(c.got, sizes) {
		t.Fatalf("had slots: %d, want %d", c.got, sizes)
	}
}

func TestLargestGoesFirst(t *testing.T) {
	withSlots(t, 1, func(t *testing.T, c *claims) {
		c.claim(t, 1, 5)
		for _, size := range []int64{1, 30, 7, 20} {
			c.claim(t, 1, size)
		}
		for range 5 {
			c.give(1)
		}
		c.want(t, 5, 30, 20, 7, 1)
	})
}

func TestEqualSizesGoInTheOrderOfTheirComing(t *testing.T) {
	withSlots(t, 1, func(t *testing.T, c *claims) {
		c.claim(t, 1, 0)
		var order []*claim
		for range 4 {
			order = append(order, c.claim(t, 1, 9))
		}
		for i := range order {
			c.give(1)
			if len(c.waiting) != len(order)-i-1 {
				t.Fatalf("%d wait after %d had theirs", len(c.waiting), i+1)
			}
			order[i].cancel() // would end it with an error if it still waited
			synctest.Wait()
			if order[i].err != nil {
				t.Errorf("number %d was overtaken", i)
			}
		}
		c.give(1)
	})
}

// Who wants many isn't overtaken by smaller ones that would fit, but by larger.
func TestManySlotsAreHadInOneGo(t *testing.T) {
	withSlots(t, 4, func(t *testing.T, c *claims) {
		c.claim(t, 3, 1)
		c.claim(t, 4, 50)
		c.claim(t, 1, 2)
		c.want(t, 1)
		c.claim(t, 1, 60)
		c.want(t, 1, 60)
		c.give(3)
		c.want(t, 1, 60)
		c.give(1)
		c.want(t, 1, 60, 50)
		c.give(4)
		c.want(t, 1, 60, 50, 2)
		c.give(1)
	})
}

func TestMoreThanThereAreMeansAll(t *testing.T) {
	withSlots(t, 2, func(t *testing.T, c *claims) {
		c.claim(t, 16, 1)
		c.claim(t, 1, 1)
		c.want(t, 1)
		c.give(16)
		c.want(t, 1, 1)
		c.give(1)
	})
}

// One that goes lets those through that waited behind it.
func TestCancelledWaiterHoldsNobodyUp(t *testing.T) {
	withSlots(t, 2, func(t *testing.T, c *claims) {
		c.claim(t, 1, 1)
		big := c.claim(t, 2, 50)
		c.claim(t, 1, 3)
		c.want(t, 1)
		big.cancel()
		synctest.Wait()
		if !errors.Is(big.err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", big.err)
		}
		c.want(t, 1, 3)
		c.give(1)
		c.give(1)
	})
}

func TestNoSlotsForWhoHasGone(t *testing.T) {
	s := newSlots(1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("given up")
	cancel(cause)
	if err := s.acquire(ctx, 1, 1); err != cause || s.free != 1 {
		t.Errorf("got %v and %d free, want the cause and the slot left alone", err, s.free)
	}
}

// Many at once, some of which go while they wait: there are never more than
// there may be, and none is lost.
func TestSlotsUnderLoad(t *testing.T) {
	const most, each, clients = 5, 200, 32
	s := newSlots(most)
	var held atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for range each {
				n := 1 + rnd.IntN(7)
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.IntN(3) == 0 {
					go cancel()
				}
				if err := s.acquire(ctx, n, rnd.Int64N(4)); err == nil {
					if now := held.Add(int64(min(n, most))); now > most {
						t.Errorf("%d slots of %d are held", now, most)
					}
					held.Add(-int64(min(n, most)))
					s.release(n)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if s.free != most || len(s.waiting) != 0 {
		t.Errorf("%d of %d free, %d wait", s.free, most, len(s.waiting))
	}
}
