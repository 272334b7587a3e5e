package bulk

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	// windowSize is how many images are listed, opened and looked up before the
	// first of them has ended; it is filled again when half of them have. What is
	// opened together can have its tokens together, of up to 20 repositories.
	windowSize = 40
	// maxHeld is how many bytes of manifests may wait for their images' turn when
	// another image is looked up: 8 MiB.
	maxHeld = 8 << 20
)

// A window is the images that were opened and haven't ended, in listing order.
// They are looked up opt.Images at once, and begun by that order as slots come
// free. Nobody waits for a later image here, so nothing waits in a circle.
type window struct {
	run       *run
	lookups   *semaphore.Weighted
	toLookUp  chan *image // both have room for all of the window
	toBegin   chan *image
	followers sync.WaitGroup // who take from them

	mu      sync.Mutex
	turn    *sync.Cond // of mu: one of these has changed, or the run's context ended
	in      int        // images
	full    bool       // until half of them have ended
	held    int64      // bytes of manifests
	dropped int        // images that were never begun
}

// openWindow begins to take images ahead.
func (r *run) openWindow(ctx context.Context) *window {
	w := &window{
		run: r, lookups: semaphore.NewWeighted(int64(r.opt.images())),
		toLookUp: make(chan *image, windowSize), toBegin: make(chan *image, windowSize),
	}
	w.turn = sync.NewCond(&w.mu)
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.turn.Broadcast()
	})
	w.followers.Go(func() {
		defer stop()
		w.lookUp(ctx)
	})
	w.followers.Go(func() { w.begin(ctx) })
	return w
}

// await waits until ready, which is called with w.mu held, or until ctx ends:
// false then.
func (w *window) await(ctx context.Context, ready func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ready() && ctx.Err() == nil {
		w.turn.Wait()
	}
	return ctx.Err() == nil
}

// room waits until another image may be added. It returns false if ctx ended.
func (w *window) room(ctx context.Context) bool {
	return w.await(ctx, func() bool { return !w.full })
}

// add opens m, which is next in listing order.
func (w *window) add(ctx context.Context, m *image) {
	w.mu.Lock()
	w.in++
	w.full = w.in >= windowSize
	w.mu.Unlock()
	m.looked = make(chan struct{})
	m.ended = func() { w.leave(m) }
	if m.err == nil && ctx.Err() == nil {
		w.run.open(ctx, m)
	}
	w.toLookUp <- m
	w.toBegin <- m
}

// leave takes m, which has ended, out of the window.
func (w *window) leave(m *image) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in--
	w.held -= m.held
	if w.in <= windowSize/2 {
		w.full = false
	}
	w.turn.Broadcast()
}

// close says that no more images come, and returns once each was given to the
// run's group, or dropped because the run is at its end.
func (w *window) close() {
	close(w.toLookUp)
	close(w.toBegin)
	w.followers.Wait()
}

// lookUp looks images up, each as soon as those before it leave room for its
// manifests. After ctx has ended it only lets them go.
func (w *window) lookUp(ctx context.Context) {
	for m := range w.toLookUp {
		_, streams := m.source.(oci.Streamer)
		if m.err != nil || streams || w.lookups.Acquire(ctx, 1) != nil {
			close(m.looked)
			continue
		}
		if !w.await(ctx, func() bool { return w.held < maxHeld }) {
			w.lookups.Release(1)
			close(m.looked)
			continue
		}
		w.followers.Go(func() {
			defer w.lookups.Release(1)
			defer close(m.looked)
			w.run.begin(ctx, m)
			m.mover.foresee(m.begun.Blobs())
			m.held = m.begun.Held()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.held += m.held
		})
	}
}

// begin gives images to the run's group as slots come free. Those that are left
// once ctx has ended are closed beside each other, since the registry may be slow
// to cancel what was begun there.
func (w *window) begin(ctx context.Context) {
	for m := range w.toBegin {
		if w.run.slots.Acquire(ctx, 1) == nil {
			w.run.work(ctx, m)
			continue
		}
		w.mu.Lock()
		w.dropped++
		w.mu.Unlock()
		w.followers.Go(func() {
			<-m.looked
			w.run.close(m)
		})
	}
}
