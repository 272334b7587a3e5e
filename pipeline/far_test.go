package pipeline_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A far is a registry on loopback that notes what it is asked.
type far struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	asked []string                                          // "GET /v2/a/manifests/v1"
	fault func(w http.ResponseWriter, r *http.Request) bool // answers in the registry's place, if it returns true
}

func newFar(t *testing.T) *far {
	t.Helper()
	f := &far{}
	next := ociserver.New(ocimem.New(), nil)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Method+" "+r.URL.Path)
		fault := f.fault
		f.mu.Unlock()
		if fault == nil || !fault(w, r) {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	f.host = strings.TrimPrefix(f.URL, "http://")
	return f
}

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

// writes counts the requests that change something.
func writes(asked []string) (n int) {
	for _, a := range asked {
		if !strings.HasPrefix(a, "GET ") && !strings.HasPrefix(a, "HEAD ") {
			n++
		}
	}
	return n
}

func (f *far) push(t *testing.T, repo, tag string, img imagetest.Image) oci.Item {
	t.Helper()
	if err := img.Push(t.Context(), f.URL, repo, tag, ""); err != nil {
		t.Fatal(err)
	}
	f.log()
	return oci.Item{
		Ref:     oci.Ref{Registry: f.host, Repository: repo, Tag: tag},
		Desc:    oci.Descriptor{Digest: img.Desc.Digest},
		IsIndex: oci.IsIndexType(img.Desc.MediaType), Bytes: -1,
	}
}

func (f *far) env() backend.Env { return backend.Env{HTTP: f.Client(), PlainHTTP: true} }

func (f *far) source(t *testing.T, item oci.Item) oci.Source {
	t.Helper()
	src, err := registry.Open(item.Ref, f.env())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// openTarget opens uri as a destination.
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

// image makes the way of item from f to target, under its own name there but
// for the host.
func (f *far) image(t *testing.T, item oci.Item, target oci.Target, host string) pipeline.Image {
	t.Helper()
	to := item.Ref
	to.Registry = host
	dest, err := target.Image(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dest.Close(); err != nil {
			t.Error(err)
		}
	})
	return pipeline.Image{Item: item, Source: f.source(t, item), Dest: dest, Traits: target.Traits(), To: to}
}

func copyImage(t *testing.T, img pipeline.Image, opt pipeline.Options) oci.ImageReport {
	t.Helper()
	r, err := pipeline.Copy(t.Context(), img, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
