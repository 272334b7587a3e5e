package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestTwoProcessesInOnePlace starts two copies into one folder that isn't there
// yet. No blob is given out before both have begun their listing.
func TestTwoProcessesInOnePlace(t *testing.T) {
	tests := []struct {
		name  string
		other bool // the second copies other images, which share blobs with the first's
	}{
		{"the same images", false},
		{"other images", true},
	}
	for _, k := range keepers {
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				b := &barrier{missing: 2, met: make(chan struct{})}
				q := startQuay(t, quaytest.Options{}, b.wrap)
				q.fill(t, 12, 20_000)
				sources := []string{q.source(), q.source()}
				if tt.other {
					for i := range 12 {
						q.push(t, fmt.Sprintf("other/app-%02d:v1", i), imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 20_000), imagetest.Random(uint64(105+i), 20_000)))
					}
					sources[1] = "quay://other/*:v1?host=" + q.host
				}
				folder := filepath.Join(t.TempDir(), "out")
				said := make([]bytes.Buffer, len(sources))
				var both []*exec.Cmd
				for i, s := range sources {
					both = append(both, startProcess(t, &said[i], s, k.scheme+folder))
				}
				for i, cmd := range both {
					if err := cmd.Wait(); err != nil {
						t.Errorf("process %d: %v\n%s", i, err, &said[i])
					}
				}
				k.complete(t, folder, q.names())
				for d, n := range q.fetched() {
					if n > 2 {
						t.Errorf("%s was fetched %d times by 2 processes", d, n)
					}
				}
			})
		}
	}
}

// A barrier holds blobs back until so many listings have begun.
type barrier struct {
	mu      sync.Mutex
	missing int
	met     chan struct{}
}

func (b *barrier) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch quaytest.Kind(r) {
		case "api.repositories":
			b.mu.Lock()
			if b.missing--; b.missing == 0 {
				close(b.met)
			}
			b.mu.Unlock()
		case "storage.get":
			select {
			case <-b.met:
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(w, r)
	})
}
