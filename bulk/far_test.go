package bulk_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A far is a registry on loopback that notes what it is asked.
type far struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	asked []string // "GET /v2/a/manifests/v1", "POST /v2/a/blobs/uploads/?mount"
	now   int      // blobs that are read at this moment
	most  int      // the most that ever were
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newFar(t *testing.T) *far {
	t.Helper()
	f := &far{}
	next := ociserver.New(ocimem.New(), nil)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := r.Method + " " + r.URL.Path
		if r.URL.Query().Has("mount") {
			entry += "?mount"
		}
		blob := r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
		f.mu.Lock()
		f.asked = append(f.asked, entry)
		if blob {
			f.now++
			f.most = max(f.most, f.now)
		}
		fault := f.fault
		f.mu.Unlock()
		read := sync.OnceFunc(func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if blob {
				f.now--
			}
		})
		defer read()
		if fault != nil && fault(w, r) {
			return
		}
		w = &served{ResponseWriter: w, before: read}
		if q := r.URL.Query(); q.Has("mount") && !hasBlob(next, q.Get("from"), q.Get("mount")) {
			r.URL.RawQuery = "" // as the specification wants it: the server underneath says 404
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	f.host = strings.TrimPrefix(f.URL, "http://")
	return f
}

// A served calls before before it sends the last bytes of an answer: once they are
// sent, the client may be at its next request.
type served struct {
	http.ResponseWriter
	before func()
	sent   int64
}

func (s *served) Write(p []byte) (int, error) {
	s.sent += int64(len(p))
	if size, err := strconv.ParseInt(s.Header().Get("Content-Length"), 10, 64); err != nil || s.sent >= size {
		s.before()
	}
	return s.ResponseWriter.Write(p)
}

// hasBlob asks a registry whether repository has blob d.
func hasBlob(registry http.Handler, repository, d string) bool {
	w := httptest.NewRecorder()
	registry.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/v2/"+repository+"/blobs/"+d, http.NoBody))
	return w.Code == http.StatusOK
}

// fail lets fault answer in the registry's place where it returns true.
func (f *far) fail(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// log gives and forgets what was asked.
func (f *far) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func count(asked []string, method, part string) (n int) {
	for _, a := range asked {
		if strings.HasPrefix(a, method+" ") && strings.Contains(a, part) {
			n++
		}
	}
	return n
}

// isBlob reports whether r reads blob d.
func isBlob(r *http.Request, d oci.Digest) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+string(d))
}

func notFound(w http.ResponseWriter) bool {
	w.WriteHeader(http.StatusNotFound)
	return true
}

func (f *far) env() backend.Env { return backend.Env{HTTP: f.Client(), PlainHTTP: true} }

// images are a listing of images in f.
type images struct {
	*far
	items  []oci.Item
	err    error // at the end of the listing
	single bool

	mu    sync.Mutex
	given int // items that were handed out
}

func (m *images) Bulk() bool   { return !m.single }
func (m *images) Close() error { return nil }

func (m *images) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	return registry.Open(item.Ref, m.env())
}

func (m *images) Discover(context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for _, item := range m.items {
			m.mu.Lock()
			m.given++
			m.mu.Unlock()
			if !yield(item, nil) {
				return
			}
		}
		if m.err != nil {
			yield(oci.Item{}, m.err)
		}
	}
}

// add pushes img and lists it.
func (m *images) add(t *testing.T, repo, tag string, img imagetest.Image) {
	t.Helper()
	if err := img.Push(t.Context(), m.URL, repo, tag, ""); err != nil {
		t.Fatal(err)
	}
	m.log()
	m.items = append(m.items, oci.Item{
		Ref:     oci.Ref{Registry: m.host, Repository: repo, Tag: tag},
		Desc:    oci.Descriptor{Digest: img.Desc.Digest},
		IsIndex: oci.IsIndexType(img.Desc.MediaType), Bytes: -1,
	})
}

var bases = []imagetest.Layer{imagetest.Random(1, 40_000), imagetest.Random(2, 20_000), imagetest.Files(map[string]string{"etc/os": "linux"})}

// app is an image of the shared bases, a layer of its own, and a config.
func app(i int) imagetest.Image {
	own := imagetest.Random(uint64(1000+i), 2000)
	return imagetest.New(imagetest.Linux, map[string]string{"n": fmt.Sprint(i)}, append(slices.Clone(bases), own)...)
}

// organisation lists n images in n repositories that share their bases.
func organisation(t *testing.T, n int) *images {
	t.Helper()
	m := &images{far: newFar(t)}
	for i := range n {
		m.add(t, fmt.Sprintf("org/app-%02d", i), "v1", app(i))
	}
	return m
}

// distinct counts the distinct blobs of an organisation of n.
func distinct(n int) int { return len(bases) + 2*n }

func openTarget(t *testing.T, uri string, env backend.Env) oci.Target {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	kind, err := backend.Table{registry.Kind, ocidir.Kind, dir.Kind}.Find(u.Scheme, "destination")
	if err != nil {
		t.Fatal(err)
	}
	target, err := kind.Target(t.Context(), u, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func (f *far) target(t *testing.T) oci.Target {
	t.Helper()
	return openTarget(t, "registry://"+f.host, f.env())
}

// to names images on f as they are called at the source.
func (f *far) to(item oci.Item) (oci.Ref, error) { return bulk.Naming{Registry: f.host}.Name(item) }

func layout(t *testing.T) oci.Target {
	t.Helper()
	return openTarget(t, "ocidir://"+t.TempDir()+"/x", backend.Env{})
}

func mustCopy(t *testing.T, src backend.Images, dst oci.Target, opt bulk.Options) *oci.Report {
	t.Helper()
	r, err := bulk.Copy(t.Context(), src, dst, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
