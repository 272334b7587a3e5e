package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// replayed is a daemon that answers about the image big:1 with cfg, and saves it
// as the archive at path. It gives its socket and the bytes that it has saved.
func replayed(t *testing.T, cfg ocispec.Image, path string) (socket string, saved *atomic.Int64) {
	t.Helper()
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	id := digest.FromBytes(config)
	inspection := map[string]any{"Id": id, "Architecture": cfg.Architecture, "Os": cfg.OS, "RootFS": map[string]any{"Layers": cfg.RootFS.DiffIDs}}
	saved = new(atomic.Int64)
	dir, err := os.MkdirTemp("", "daemon-") // a test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/images/big:1/json", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(inspection) })
	mux.HandleFunc("/images/"+string(id)+"/history", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode([]any{}) })
	mux.HandleFunc("/images/"+string(id)+"/get", func(w http.ResponseWriter, r *http.Request) {
		if fi, err := os.Stat(path); err == nil {
			saved.Add(fi.Size())
		}
		http.ServeFile(w, r, path)
	})
	s := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return socket, saved
}

// An image of 1 GiB that a daemon streams goes to a registry in little memory, and
// a second run doesn't have it streamed again.
func TestMemoryOfABigStream(t *testing.T) {
	const layers, size = 30, 35 << 20
	path := filepath.Join(t.TempDir(), "big.tar")
	cfg := bigArchive(t, path, layers, size)
	socket, saved := replayed(t, cfg, path)
	to := spawnRegistry(t, t.TempDir())
	args := []string{"process", "--plain-http", "docker://big:1?socket=" + socket, "registry://" + to + "/big:v1"}
	small(t, must(t, args...), mostCopying)
	seen(t, to, "big:v1", seeImage)
	must(t, args...)
	if n := saved.Load(); n < layers*size || n >= 2*layers*size {
		t.Errorf("the daemon saved %d bytes, want the image once", n)
	}
}
