package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// A brake lets some blobs pass whole, then gives half a blob and holds the rest
// back until it is released.
type brake struct {
	mu      sync.Mutex
	pass    int
	held    chan struct{} // closed when a blob is held
	release chan struct{}
	once    sync.Once
}

func newBrake(pass int) *brake {
	return &brake{pass: pass, held: make(chan struct{}), release: make(chan struct{})}
}

func (b *brake) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			b.mu.Lock()
			b.pass--
			hold := b.pass < 0
			b.mu.Unlock()
			if hold {
				w = &braked{w, b}
			}
		}
		next.ServeHTTP(w, r)
	})
}

type braked struct {
	http.ResponseWriter
	b *brake
}

func (w *braked) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	w.b.once.Do(func() { close(w.b.held) })
	<-w.b.release
	m, err := w.ResponseWriter.Write(p[n:])
	return n + m, err
}

// TestStoppedRunsGoOn stops the program in the middle of a copy and runs it
// again: what it left is not taken for whole, and the rest is done.
func TestStoppedRunsGoOn(t *testing.T) {
	tests := []struct {
		name   string
		signal os.Signal
		status int // -1: killed
	}{
		{"interrupt", os.Interrupt, 130},
		{"terminate", syscall.SIGTERM, 130},
		{"kill", os.Kill, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBrake(7)
			from := startRegistry(t, b.wrap)
			var list strings.Builder
			for i := range 6 {
				img := imagetest.Index(image(uint64(i), 200_000, "amd64"), image(100, 5000, "arm64"))
				repo := fmt.Sprintf("team/app%d", i)
				if err := img.Push(t.Context(), from.URL, repo, "v1", ""); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&list, "%s/%s:v1\n", from.host, repo)
			}
			file, dir := filepath.Join(t.TempDir(), "list"), filepath.Join(t.TempDir(), "layout")
			if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"process", "--plain-http", "list://" + file, "ocidir://" + dir}

			var said bytes.Buffer
			cmd := start(t.Context(), t, &said, args...)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-b.held:
			case err := <-ended:
				t.Fatalf("it ended by itself: %v\n%s", err, &said)
			}
			stopped := time.Now()
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			<-ended // its status is looked at below
			if d := time.Since(stopped); cmd.ProcessState.ExitCode() != tt.status || d > 5*time.Second {
				t.Errorf("status %d after %s, want %d\n%s", cmd.ProcessState.ExitCode(), d, tt.status, &said)
			}
			b.mu.Lock()
			b.pass = 1 << 30
			b.mu.Unlock()
			close(b.release)

			must(t, args...)
			idx, err := layout.ImageIndexFromPath(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(idx); err != nil {
				t.Errorf("go-containerregistry: %v", err)
			}
			m, err := idx.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if n := len(m.Manifests); n != 6 {
				t.Errorf("the layout holds %d images, want 6", n)
			}
			left, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*[^0-9a-f]*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}
