package discover_test

import "sync"

// A gauge knows how many were in at once.
type gauge struct {
	mu        sync.Mutex
	now, high int
}

func (g *gauge) enter() (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	g.high = max(g.high, g.now)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.now--
	}
}

func (g *gauge) most() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.high
}
