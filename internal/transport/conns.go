package transport

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// conns keeps a host from getting more connections than it ever had requests at
// once. net/http dials for each request that finds no free connection, and goes
// on dialling when one comes free meanwhile; the next request that finds none
// dials again, though that one is about to be there. So a request that has
// others' spare connection to wait for waits for it.
type conns struct {
	mu      sync.Mutex
	open    int // connections, also those that are being dialled
	busy    int // requests, until their answer's body is closed
	waiting []chan struct{}
}

// spareWait is how long a spare connection is waited for: its dial may hang.
const spareWait = time.Second

// begin and end enclose a request.
func (c *conns) begin() { c.change(0, 1) }
func (c *conns) end()   { c.change(0, -1) }

func (c *conns) change(open, busy int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += open
	c.busy += busy
	if len(c.waiting) > 0 && (open < 0 || busy != 0) {
		for _, w := range c.waiting {
			close(w)
		}
		c.waiting = nil
	}
}

// reserve waits until one more connection is needed and counts it. It fails if
// the request that it was for has been answered over another.
func (c *conns) reserve(ctx context.Context) error {
	w, _ := ctx.Value(watchKey{}).(*watch)
	var timeout <-chan time.Time
	for {
		c.mu.Lock()
		if c.open < c.busy {
			c.open++
			c.mu.Unlock()
			return nil
		}
		changed := make(chan struct{})
		c.waiting = append(c.waiting, changed)
		c.mu.Unlock()
		if timeout == nil {
			timer := time.NewTimer(spareWait)
			defer timer.Stop()
			timeout = timer.C
		}
		late := false
		select {
		case <-changed:
		case <-timeout:
			late = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if w != nil && w.isAnswered() {
			return final("the request has been answered over another connection")
		}
		if late {
			c.change(1, 0)
			return nil
		}
	}
}

// A conn is a connection that is counted.
type conn struct {
	*net.TCPConn
	of   *conns
	once sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() { c.of.change(-1, 0) })
	return c.TCPConn.Close()
}

var _ io.ReaderFrom = (*conn)(nil) // net/http sends files by it
