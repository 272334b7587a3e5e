package dockerpush_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dockerpush"
	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// saved makes a docker-save archive of an image with layers.
func saved(t *testing.T, name string, layers ...[]byte) string {
	t.Helper()
	cfg := ocispec.Image{Platform: imagetest.Linux, RootFS: ocispec.RootFS{Type: "layers"}}
	cfg.Config.Cmd = []string{"/bin/true"}
	var paths []string
	var entries []imagetest.Entry
	seen := map[string]bool{}
	for _, l := range layers {
		d := imagetest.Blob("", l).DiffID
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, d)
		cfg.History = append(cfg.History, ocispec.History{CreatedBy: "test"})
		path := d.Encoded() + ".tar"
		paths = append(paths, path)
		if !seen[path] {
			entries = append(entries, imagetest.File(path, string(l)))
			seen[path] = true
		}
	}
	config := imagetest.Blob("", marshal(t, cfg))
	manifest := marshal(t, []map[string]any{{"Config": config.DiffID.Encoded() + ".json", "RepoTags": []string{name}, "Layers": paths}})
	entries = append(entries, imagetest.File(config.DiffID.Encoded()+".json", string(config.Bytes)), imagetest.File("manifest.json", string(manifest)))
	file := filepath.Join(t.TempDir(), "saved.tar")
	if err := os.WriteFile(file, imagetest.Tar(entries...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// layer makes the tar of a layer with one file of random bytes.
func layer(t *testing.T, seed uint64, size int) []byte {
	t.Helper()
	raw := imagetest.Random(seed, size)
	return gunzip(t, raw.Bytes)
}

// A proxy stands between us and a daemon, and lets things go wrong.
type proxy struct {
	socket string
	pass   http.Handler // to the daemon

	mu     sync.Mutex
	calls  []string // method and path
	repo   string   // that the image was tagged with last
	auth   string   // of the last push
	onPush func(w http.ResponseWriter, r *http.Request)
	onTag  func(w http.ResponseWriter, r *http.Request)
	onGone func(w http.ResponseWriter, r *http.Request)
}

func newProxy(t *testing.T, d daemontest.Daemon) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "proxy-") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &proxy{socket: filepath.Join(dir, "s")}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}}
	p.pass = &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "daemon"
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: p}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls = append(p.calls, r.Method+" "+r.URL.Path)
	handle := p.pass.ServeHTTP
	use := func(f func(http.ResponseWriter, *http.Request)) {
		if f != nil {
			handle = f
		}
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/tag"):
		p.repo = r.URL.Query().Get("repo")
		use(p.onTag)
	case strings.HasSuffix(r.URL.Path, "/push"):
		p.auth = r.Header.Get("X-Registry-Auth")
		use(p.onPush)
	case r.Method == http.MethodDelete:
		use(p.onGone)
	}
	p.mu.Unlock()
	handle(w, r)
}

// count says how many calls ended in suffix.
func (p *proxy) count(method, suffix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if strings.HasPrefix(c, method+" ") && strings.HasSuffix(c, suffix) {
			n++
		}
	}
	return n
}

// login gives user and password of the registry of the last push.
func (p *proxy) login(t *testing.T) (user, password string) {
	raw, err := base64.URLEncoding.DecodeString(p.auth)
	if err != nil {
		t.Error(err)
	}
	var l struct{ Username, Password string }
	if err := json.Unmarshal(raw, &l); err != nil {
		t.Error(err)
	}
	return l.Username, l.Password
}

// open opens dockerpush://name at socket.
func open(t *testing.T, socket, name string, warn func(string)) backend.Images {
	t.Helper()
	u, err := backend.ParseURI("dockerpush://" + name + "?socket=" + url.PathEscape(socket))
	if err != nil {
		t.Fatal(err)
	}
	images, err := dockerpush.Kind.Source(t.Context(), u, backend.Env{Warn: warn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := images.Close(); err != nil {
			t.Error(err)
		}
	})
	return images
}

// tagGone fails if the daemon has a tag of ours.
func tagGone(t *testing.T, d daemontest.Daemon) {
	t.Helper()
	if got := d.Do(t, "images", "--all", "--format", "{{.Repository}}:{{.Tag}}"); strings.Contains(got, "127.0.0.1") || !strings.Contains(got, "example.com/a/b:v1") {
		t.Errorf("the daemon has the images\n%s", got)
	}
}

// nothingLeft fails if more files are open, or more goroutines are there, at the
// end of the test than now.
func nothingLeft(t *testing.T) {
	t.Helper()
	files, routines := openFiles(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for openFiles(t) > files || runtime.NumGoroutine() > routines {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Errorf("%d files are open, there were %d; %d goroutines, there were %d:\n%s", openFiles(t), files,
					runtime.NumGoroutine(), routines, stacks[:runtime.Stack(stacks, true)])
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// members lists what a tar holds.
func members(t *testing.T, raw []byte) (names []string) {
	t.Helper()
	for tr := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
