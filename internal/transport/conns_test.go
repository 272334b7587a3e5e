package transport

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// However requests come, a host gets no more connections than it may have
// requests at once.
func TestConnectionsAreNoMoreThanRequests(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "some answer")
	})
	for range 5 {
		tr := newTest(t, Options{Concurrency: 8})
		c := tr.Client()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if status, _, err := try(c, []string{"GET", "HEAD", "PUT"}[i%3], s.URL+"/x", ""); err != nil || status != 200 {
					t.Errorf("got %d, %v", status, err)
				}
			})
		}
		wg.Wait()
		if n := tr.Stats().Sum().Connections; n > 8 {
			t.Errorf("got %d connections for 8 requests at once", n)
		}
	}
}

func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c conns
		reserve := func(w *watch) chan error {
			done := make(chan error, 1)
			go func() { done <- c.reserve(w) }()
			synctest.Wait()
			return done
		}
		first := newWatch(t.Context(), &c, time.Hour)
		if err := <-reserve(first); err != nil {
			t.Errorf("the first: %v", err)
		}
		// Its connection is there and free: what else dials for it waits, and
		// learns that it came too late.
		late := reserve(first)
		first.stop()
		first.end()
		if err := <-late; err == nil {
			t.Error("a request that was answered gets one more connection")
		}
		// With one free, a second is for who comes on top.
		second, third := newWatch(t.Context(), &c, time.Hour), newWatch(t.Context(), &c, time.Hour)
		if err := <-reserve(second); err != nil {
			t.Errorf("the second: %v", err)
		}
		waits := reserve(third)
		select {
		case err := <-waits:
			t.Errorf("a third connection for two requests: %v", err)
		default:
		}
		c.change(-1, 0) // the spare one is lost
		if err := <-waits; err != nil || c.open != 2 {
			t.Errorf("after a loss: %v, %d open", err, c.open)
		}
		// A spare one that never comes is waited for a while only.
		start := time.Now()
		if err := <-reserve(third); err != nil || time.Since(start) != spareWait {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		second.end()
		third.end()
	})
}
