package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A crowd counts how many are in at once.
type crowd struct {
	mu       sync.Mutex
	in, most int
}

func (c *crowd) enter() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in++
	c.most = max(c.most, c.in)
	return c.in
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in--
}

// Four may be in at once: four get in, and never a fifth.
func TestGateBoundsWhatIsInFlight(t *testing.T) {
	var in crowd
	var full sync.WaitGroup
	full.Add(4)
	s := serve(t, func(_ http.ResponseWriter, _ *http.Request, n int) {
		in.enter()
		defer in.leave()
		if n <= 4 {
			full.Done()
			full.Wait() // the first four meet
		}
	})
	a := newTest(t, Options{Concurrency: 4})
	b := newTest(t, Options{Peer: a}) // the other side of the run is in the same gate
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c := []*Transport{a, b}[i%2].Client()
			if status, _, err := try(c, []string{"GET", "HEAD", "PUT"}[i%3], s.URL+"/x", ""); err != nil || status != 200 {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if in.most != 4 {
		t.Errorf("%d were in at once, want 4", in.most)
	}
}

// Uploads from memory are bounded as all that needs nothing else to end.
func TestGateBoundsUploadsFromMemory(t *testing.T) {
	var in crowd
	var full sync.WaitGroup
	full.Add(4)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request, n int) {
		in.enter()
		defer in.leave()
		if n <= 4 {
			full.Done()
			full.Wait()
		}
		_, _ = io.Copy(io.Discard, r.Body) // a client that is gone
	})
	c := newTest(t, Options{Concurrency: 4}).Client()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(WithHeld(t.Context()), http.MethodPut, s.URL+"/v2/a/blobs/uploads/1", strings.NewReader("content"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	wg.Wait()
	if in.most != 4 {
		t.Errorf("%d were in at once, want 4", in.most)
	}
}

func TestGateHalvesAndRecovers(t *testing.T) {
	g := newGate(8)
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 4}, {500 * time.Millisecond, 4}, {1500 * time.Millisecond, 2}, {3 * time.Second, 1}, {5 * time.Second, 1}} {
		g.answered(true, now.Add(step.after))
		if int(g.bound) != step.want {
			t.Errorf("after %v: got %v, want %d", step.after, g.bound, step.want)
		}
	}
	n := 0
	for ; g.bound < 8; n++ {
		g.answered(false, now)
	}
	if n < 20 || n > 40 { // a round of answers a step: 1+2+...+7
		t.Errorf("%d answers from 1 to 8, want about 28", n)
	}
}

// Answers 429 and 503 let less go at once.
func TestBusyHostGetsLess(t *testing.T) {
	for _, status := range []int{429, 503} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
			if n == 1 {
				w.WriteHeader(status)
			}
		})
		tr := newTest(t, Options{Retries: -1, Concurrency: 8})
		fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x")
		if g := tr.host(mustURL(t, s.URL)).limits.gate; int(g.bound) != 4 {
			t.Errorf("%d: got %v, want 4", status, g.bound)
		}
	}
}

// A blob that is sent is read at the same host, by a request that begins before
// or within the one that sends it: with a bound of one, and eight at once, all end.
func TestGateHasNoCircle(t *testing.T) {
	const size = 1 << 20
	for _, within := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			if r.Method == http.MethodGet {
				_, _ = io.CopyN(w, zeros{}, size)
				return
			}
			if n, err := io.Copy(io.Discard, r.Body); err == nil && n == size {
				w.WriteHeader(http.StatusCreated)
			}
		})
		from := newTest(t, Options{Concurrency: 1})
		to := newTest(t, Options{Peer: from})
		var wg sync.WaitGroup
		for i := range 8 {
			open := func() io.ReadCloser {
				req, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/v2/a/blobs/x%d", s.URL, i), nil)
				if err != nil {
					t.Error(err)
					return nil
				}
				resp, err := from.Client().Do(req)
				if err != nil {
					t.Error(err)
					return nil
				}
				return resp.Body
			}
			wg.Go(func() {
				blob := &late{open: open}
				if !within {
					blob.body = open()
				}
				req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/v2/b/blobs/uploads/1?digest=x", blob)
				if err != nil {
					t.Error(err)
					return
				}
				req.ContentLength = size
				resp, err := to.Client().Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Errorf("got %d", resp.StatusCode)
				}
			})
		}
		wg.Wait()
		g := from.host(mustURL(t, s.URL)).limits.gate
		g.mu.Lock()
		if g.requests != 0 || g.streams != 0 || len(g.queue) != 0 {
			t.Errorf("left behind: %d requests, %d streams, %d who wait", g.requests, g.streams, len(g.queue))
		}
		g.mu.Unlock()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// late opens its body at the first read.
type late struct {
	open func() io.ReadCloser
	body io.ReadCloser
}

func (l *late) Read(p []byte) (int, error) {
	if l.body == nil {
		if l.body = l.open(); l.body == nil {
			return 0, io.ErrUnexpectedEOF
		}
	}
	return l.body.Read(p)
}

func (l *late) Close() error {
	if l.body == nil {
		return nil
	}
	return l.body.Close()
}

// Blobs that nobody reads on leave room for requests.
func TestOpenBlobsLeaveRoom(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = io.CopyN(w, zeros{}, 8<<20)
		}
	})
	c := newTest(t, Options{Concurrency: 2}).Client()
	for range 10 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v2/a/blobs/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	if status, _ := fetch(t, c, "GET", s.URL+"/v2/a/manifests/x"); status != 200 {
		t.Errorf("got %d", status)
	}
}

func TestCancelledInTheGate(t *testing.T) {
	g := newGate(1)
	if _, err := g.enter(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.enter(ctx, false); err == nil {
		t.Error("who was cancelled got in")
	}
	let := make(chan error)
	go func() {
		_, err := g.enter(t.Context(), true)
		let <- err
	}()
	g.leave(false)
	if err := <-let; err != nil || g.requests != 0 || g.streams != 1 || len(g.queue) != 0 {
		t.Errorf("got %v, %d requests, %d streams, %d who wait", err, g.requests, g.streams, len(g.queue))
	}
}
