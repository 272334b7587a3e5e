package transport

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A clock that stands still but for what is slept on it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) sleep(_ context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return nil
}

// 4 MiB at 1 MiB/s take 4 s less the burst, in either direction, and both sides
// share that; manifests are free.
func TestBandwidthLimit(t *testing.T) {
	const size, limit = 4 << 20, 1 << 20
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Method == http.MethodGet {
			_, _ = io.CopyN(w, zeros{}, size)
			return
		}
		if n, err := io.Copy(io.Discard, r.Body); err == nil && n == size {
			w.WriteHeader(http.StatusCreated)
		}
	})
	a := newTest(t, Options{BandwidthLimit: limit})
	b := newTest(t, Options{Peer: a})
	down, up := &clock{now: time.Now()}, &clock{now: time.Now()}
	a.limits.down.now, a.limits.down.sleep = down.read, down.sleep
	a.limits.up.now, a.limits.up.sleep = up.read, up.sleep
	took := func(c *clock, do func()) time.Duration {
		start := c.read()
		do()
		return c.read().Sub(start)
	}
	put := func() {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/v2/b/blobs/uploads/1?digest=x", io.NopCloser(io.LimitReader(zeros{}, size)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		resp, err := b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
	tests := []struct {
		name  string
		clock *clock
		do    func()
		want  time.Duration
	}{
		{"a blob comes in", down, func() { fetch(t, a.Client(), "GET", s.URL+"/v2/a/blobs/x") }, 4 * time.Second},
		{"one on the other side", down, func() { fetch(t, b.Client(), "GET", s.URL+"/v2/a/blobs/x") }, 4 * time.Second},
		{"a manifest comes in", down, func() { fetch(t, a.Client(), "GET", s.URL+"/v2/a/manifests/x") }, 0},
		{"a blob goes out", up, put, 4 * time.Second},
		{"that is free of what comes in", down, put, 0},
	}
	for _, tt := range tests {
		d := took(tt.clock, tt.do)
		if d > tt.want || d < tt.want-250*time.Millisecond {
			t.Errorf("%s: took %v, want %v less the burst", tt.name, d, tt.want)
		}
	}
	if h := a.Stats().Sum(); h.Received != size || h.Sent != 0 {
		t.Errorf("counted %d in and %d out, want %d and 0", h.Received, h.Sent, size)
	}
	if h := b.Stats().Sum(); h.Received != size || h.Sent != 2*size {
		t.Errorf("the other side counted %d in and %d out, want %d and %d", h.Received, h.Sent, size, 2*size)
	}
}

func TestPaceOfCancelledRun(t *testing.T) {
	p := newPace(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.wait(t.Context(), minPaceBurst); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(ctx, minPaceBurst); err == nil {
		t.Error("more than an hour went by in no time")
	}
}
