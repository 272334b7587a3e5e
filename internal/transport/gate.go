package transport

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A gate bounds how much goes to one host at once, by what its answers tell:
// 429 and 503 halve the bound, at most once a second, and each other answer
// lifts it by its reciprocal, so that a round of answers lifts it by one, up
// to where it began.
//
// Requests count until their answer is there, with its body where that is read
// at once. Then the body of a blob counts as a stream until it is closed, and
// so does an upload while its body is sent, for these read from each other: a
// blob that is sent is read somewhere, perhaps from the same host ([WithHeld] says
// that it was read before). Whatever waits here therefore waits for requests alone, which end by themselves:
// streams leave half of the bound to requests, and wait only while requests
// take more than their half.
type gate struct {
	most float64

	mu       sync.Mutex
	bound    float64
	changed  time.Time // when bound was halved
	requests int
	streams  int
	queue    []*entrant // who waits, first come first served
}

type entrant struct {
	stream bool
	in     chan struct{} // closed when it may go
}

type heldKey struct{}

// WithHeld says that the body of an upload with ctx is in memory: to send it
// nothing else has to be read. It counts as a request then, not as a stream.
func WithHeld(ctx context.Context) context.Context {
	return context.WithValue(ctx, heldKey{}, true)
}

// defaultConcurrency is the gate's bound if nobody sets one.
const defaultConcurrency = 8

func newGate(most int) *gate {
	if most <= 0 {
		most = defaultConcurrency
	}
	return &gate{most: float64(most), bound: float64(most)}
}

// enter waits for a place. Each success is followed by one leave.
func (g *gate) enter(ctx context.Context, stream bool) (waited bool, err error) {
	g.mu.Lock()
	if len(g.queue) == 0 && g.fits(stream) {
		g.count(stream, 1)
		g.mu.Unlock()
		return false, nil
	}
	e := &entrant{stream: stream, in: make(chan struct{})}
	g.queue = append(g.queue, e)
	g.mu.Unlock()
	select {
	case <-e.in:
		return true, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.queue, e); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	} else { // let in at the last moment
		g.count(stream, -1)
	}
	g.advance()
	return true, context.Cause(ctx)
}

// fits reports whether one more may go.
func (g *gate) fits(stream bool) bool {
	bound := int(g.bound)
	if g.requests+g.streams < bound {
		return true
	}
	if stream {
		return g.requests <= bound/2
	}
	return g.requests < max(1, bound/2)
}

func (g *gate) count(stream bool, n int) {
	if stream {
		g.streams += n
	} else {
		g.requests += n
	}
}

// leave ends what enter began.
func (g *gate) leave(stream bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(stream, -1)
	g.advance()
}

// flow makes a request that was answered a stream.
func (g *gate) flow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests--
	g.streams++
	g.advance()
}

func (g *gate) advance() {
	for len(g.queue) > 0 && g.fits(g.queue[0].stream) {
		e := g.queue[0]
		g.queue = g.queue[1:]
		g.count(e.stream, 1)
		close(e.in)
	}
}

// answered takes note of an answer: busy, or not.
func (g *gate) answered(busy bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !busy:
		g.bound = min(g.most, g.bound+1/g.bound)
		g.advance()
	case now.Sub(g.changed) >= time.Second:
		g.bound, g.changed = max(1, g.bound/2), now
	}
}
