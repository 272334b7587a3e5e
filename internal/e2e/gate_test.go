package e2e

import (
	"net/http"
	"os/exec"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// A gate stands in front of a Quay and lets a number of bytes of blobs through.
// What comes after waits until its client has gone away. It begins open.
type gate struct {
	mu     sync.Mutex
	left   int64
	closed chan struct{} // nil: open; closed when left is used up
	shut   bool
}

// arm lets n bytes through from now on; the result is closed once they are gone
// and more is asked for.
func (g *gate) arm(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.closed, g.shut = int64(n), make(chan struct{}), false
	return g.closed
}

// open lets everything through.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = nil
}

// take gives how many of n bytes may pass.
func (g *gate) take(n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		return n
	}
	n = int(min(int64(n), g.left))
	g.left -= int64(n)
	return n
}

// hold says that more bytes are wanted than may pass.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.shut = true
		close(g.closed)
	}
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if quaytest.Kind(r) == "storage.get" {
			w = &gated{w, g, r}
		}
		next.ServeHTTP(w, r)
	})
}

type gated struct {
	http.ResponseWriter
	g *gate
	r *http.Request
}

func (w *gated) Write(p []byte) (int, error) {
	n := w.g.take(len(p))
	if n == len(p) {
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:n]) // the client is about to go
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	w.g.hold()
	<-w.r.Context().Done()
	panic(http.ErrAbortHandler)
}

// waited waits for cmd.
func waited(cmd *exec.Cmd) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended
}

// until waits for reached, and fails if cmd ends before.
func until(t *testing.T, cmd *exec.Cmd, reached <-chan struct{}) (ended <-chan error) {
	t.Helper()
	ended = waited(cmd)
	select {
	case <-reached:
	case err := <-ended:
		t.Fatalf("it ended before: %v\n%s", err, cmd.Stderr)
	}
	return ended
}
