package bulk

import (
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// An EventKind says what an [Event] tells.
type EventKind int

const (
	// Listed: the listing handed out one more image, or ended.
	Listed EventKind = iota
	// Started: work on the image Number begins. These come in listing order.
	Started
	// Moved: Bytes more were read from the source.
	Moved
	// Ended: Report says what became of the image Number.
	Ended
)

// An Event tells progress. Events come one at a time, and those of an image in
// order. Who takes them holds everybody up, so it should only note them.
type Event struct {
	Kind   EventKind
	Number int              // of the image in the listing, from 1
	Item   oci.Item         // of Started and Ended
	To     oci.Ref          // likewise: the name at the destination
	Report *oci.ImageReport // of Ended; of Copy only
	Bytes  int64            // of Moved

	// How far the run is: Done of Found images have ended, and Found is final
	// once Complete.
	Done, Found int
	Complete    bool
}

// progress sends events and keeps the counts that they carry.
type progress struct {
	send   func(Event) // may be nil
	lister oci.Lister  // may be nil

	mu          sync.Mutex
	turn        *sync.Cond // of mu: begun has changed
	begun       int        // images that have started: 1 to begun
	handed      int        // images that the listing has given
	done, found int
	complete    bool
}

func newProgress(send func(Event), src any) *progress {
	lister, _ := src.(oci.Lister)
	p := &progress{send: send, lister: lister}
	p.turn = sync.NewCond(&p.mu)
	return p
}

// emit fills in the counts and sends e. change, which may be nil, runs first.
func (p *progress) emit(e Event, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change != nil {
		change()
	}
	if p.send == nil {
		return
	}
	if e.Kind != Moved && !p.complete {
		p.found = p.handed
		if p.lister != nil {
			l := p.lister.Listing()
			p.found, p.complete = max(l.Found, p.handed), l.Done
		}
	}
	e.Done, e.Found, e.Complete = p.done, p.found, p.complete
	p.send(e)
}

func (p *progress) listed() { p.emit(Event{Kind: Listed}, func() { p.handed++ }) }

// listingEnded says that no image follows. whole is false if some are missing.
func (p *progress) listingEnded(whole bool) {
	p.emit(Event{Kind: Listed}, func() {
		if p.lister == nil && whole {
			p.found, p.complete = p.handed, true
		}
	})
}

// started waits for the turn of number, so that images start in listing order
// whichever goroutine comes first. Each number must be started once.
func (p *progress) started(number int, item oci.Item, to oci.Ref) {
	p.mu.Lock()
	for p.begun != number-1 {
		p.turn.Wait()
	}
	p.mu.Unlock()
	defer p.turn.Broadcast()
	p.emit(Event{Kind: Started, Number: number, Item: item, To: to}, func() { p.begun = number })
}

func (p *progress) moved(n int64) { p.emit(Event{Kind: Moved, Bytes: n}, nil) }

func (p *progress) ended(number int, item oci.Item, to oci.Ref, r *oci.ImageReport) {
	p.emit(Event{Kind: Ended, Number: number, Item: item, To: to, Report: r}, func() { p.done++ })
}
