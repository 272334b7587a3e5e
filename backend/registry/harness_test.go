package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// A far is a registry on loopback that notes what it is asked, with a place
// for faults in front.
type far struct {
	*httptest.Server
	host string
	next http.Handler // the registry itself
	http *http.Client // the program's own transport

	mu    sync.Mutex
	asked []string // "PUT /v2/a/manifests/v1"
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newFar(t *testing.T) *far {
	f := &far{next: ociserver.New(ocimem.New(), nil)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	f.host = strings.TrimPrefix(f.URL, "http://")
	f.http = client(t, transport.Options{Retries: -1}) // so that what is seen is this package's
	return f
}

// client makes the program's own transport.
func client(t *testing.T, o transport.Options) *http.Client {
	t.Helper()
	tr, err := transport.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	return tr.Client()
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	f.next.ServeHTTP(w, r)
}

// fail lets fn answer requests in the registry's place; it returns whether it did.
func (f *far) fail(fn func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fn
}

// log gives and forgets what was asked.
func (f *far) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

// count says how many requests since the last log begin with method and hold part.
func count(asked []string, method, part string) (n int) {
	for _, a := range asked {
		if strings.HasPrefix(a, method+" ") && strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (f *far) env() backend.Env { return backend.Env{HTTP: f.http, PlainHTTP: true} }

func (f *far) ref(repo, tag string) oci.Ref {
	return oci.Ref{Registry: f.host, Repository: repo, Tag: tag}
}

func (f *far) source(t *testing.T, repo, tag string) oci.Source {
	t.Helper()
	src, err := registry.Open(f.ref(repo, tag), f.env())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// target opens the registry as registry://HOST is.
func (f *far) target(t *testing.T, env backend.Env) oci.Target {
	t.Helper()
	u, err := backend.ParseURI("registry://" + f.host)
	if err != nil {
		t.Fatal(err)
	}
	tgt, err := registry.Kind.Target(t.Context(), u, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tgt.Close() })
	return tgt
}

func (f *far) destination(t *testing.T, repo, tag string) oci.Destination {
	t.Helper()
	dst, err := f.target(t, f.env()).Image(t.Context(), f.ref(repo, tag))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dst.Close() })
	return dst
}

// content is a blob's bytes, with counts of how often they were opened and
// read to the end.
type content struct {
	bytes     []byte
	opened    atomic.Int32
	completed atomic.Int32
}

func random(seed uint64, size int) *content {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return &content{bytes: b}
}

func (c *content) desc() oci.Descriptor {
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(c.bytes), Size: int64(len(c.bytes))}
}

func (c *content) blob() oci.Blob { return oci.Blob{Desc: c.desc(), Open: c.open} }

func (c *content) open(context.Context) (io.ReadCloser, error) {
	c.opened.Add(1)
	return &counted{bytes.NewReader(c.bytes), c}, nil
}

type counted struct {
	*bytes.Reader
	c *content
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == nil && c.Reader.Len() == 0 {
		c.c.completed.Add(1)
	}
	return n, err
}

func (c *counted) Close() error { return nil }

// has fails the test unless the registry gives c from repo.
func (f *far) has(t *testing.T, repo string, c *content) {
	t.Helper()
	resp, err := http.Get(f.URL + "/v2/" + repo + "/blobs/" + string(c.desc().Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, c.bytes) {
		t.Fatalf("%s has no such blob: %s, %d bytes, %v", repo, resp.Status, len(got), err)
	}
}

// reset breaks the connection without an answer.
func reset(w http.ResponseWriter) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	return true
}

// answer gives an error as registries do.
func answer(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"says the test"}]}`, code)
	return true
}

// once lets fn act on the first request of method whose path holds part.
func once(method, part string, fn func(w http.ResponseWriter, r *http.Request) bool) func(w http.ResponseWriter, r *http.Request) bool {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == method && strings.Contains(r.URL.Path, part) && !done.Swap(true) && fn(w, r)
	}
}

// scopes notes what each request said it needs.
type scopes struct {
	next http.RoundTripper
	mu   sync.Mutex
	seen map[string][]string // "PUT /v2/a/manifests/v1" -> scopes
}

func (s *scopes) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	key := r.Method + " " + r.URL.Path
	s.seen[key] = slices.Compact(slices.Sorted(slices.Values(append(s.seen[key], auth.GetAllScopesForHost(r.Context(), r.URL.Host)...))))
	s.mu.Unlock()
	return s.next.RoundTrip(r)
}

func scopesOf(ctx context.Context, host string) []string { return auth.GetAllScopesForHost(ctx, host) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
