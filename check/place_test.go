package check_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A content is what a place holds, true or not: bytes under the names that they
// should have.
type content struct {
	root  oci.Descriptor
	files map[oci.Digest][]byte
	types map[oci.Digest]oci.MediaType // of manifests
}

// of is an image as it should be.
func of(img imagetest.Image) *content {
	c := &content{root: img.Desc, files: maps.Clone(img.Blobs), types: map[oci.Digest]oci.MediaType{img.Desc.Digest: img.Desc.MediaType}}
	c.files[img.Desc.Digest] = img.Raw
	for _, child := range img.Children {
		sub := of(child)
		maps.Copy(c.files, sub.files)
		maps.Copy(c.types, sub.types)
	}
	return c
}

// put stores b under its digest.
func (c *content) put(b []byte) oci.Descriptor {
	d := oci.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
	c.files[d.Digest] = b
	return d
}

// edit changes the root and gives it its new digest.
func (c *content) edit(change func(m map[string]any)) *content {
	var m map[string]any
	must(json.Unmarshal(c.files[c.root.Digest], &m))
	change(m)
	raw, err := json.Marshal(m)
	must(err)
	return c.replace(raw)
}

// replace lets raw be the root.
func (c *content) replace(raw []byte) *content {
	mt := c.root.MediaType
	c.root = c.put(raw)
	c.root.MediaType = mt
	c.types[c.root.Digest] = mt
	return c
}

// editConfig changes the config of an image.
func (c *content) editConfig(change func(cfg map[string]any)) *content {
	var m ocispec.Manifest
	must(json.Unmarshal(c.files[c.root.Digest], &m))
	var cfg map[string]any
	must(json.Unmarshal(c.files[m.Config.Digest], &cfg))
	change(cfg)
	raw, err := json.Marshal(cfg)
	must(err)
	return c.replaceConfig(raw)
}

// replaceConfig lets raw be the config of an image.
func (c *content) replaceConfig(raw []byte) *content {
	d := c.put(raw)
	return c.edit(func(m map[string]any) {
		m["config"].(map[string]any)["digest"] = d.Digest
		m["config"].(map[string]any)["size"] = d.Size
	})
}

// layer gives the i-th layer's descriptor in the root.
func layerOf(m map[string]any, i int) map[string]any { return m["layers"].([]any)[i].(map[string]any) }

// damage replaces the bytes of d by others of the same length.
func (c *content) damage(d oci.Digest) {
	b := bytes.Clone(c.files[d])
	b[len(b)-1] ^= 1
	c.files[d] = b
}

// manifest gives the root's.
func (c *content) manifest() *oci.Manifest {
	var m oci.Manifest
	must(json.Unmarshal(c.files[c.root.Digest], &m))
	return &m
}

// layout writes c as an OCI image layout and opens its image.
func (c *content) layout(t *testing.T) (oci.Source, oci.Item) {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(os.MkdirAll(blobs, 0o755))
	for d, b := range c.files {
		must(os.WriteFile(filepath.Join(blobs, d.Encoded()), b, 0o644))
	}
	root := c.root
	root.Annotations = map[string]string{"org.opencontainers.image.ref.name": "example.com/org/app:1"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{root}})
	must(err)
	must(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	must(os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	u, err := backend.ParseURI("ocidir://" + dir)
	must(err)
	images, err := ocidir.Kind.Source(t.Context(), u, backend.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { images.Close() })
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		src, err := images.Source(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		return src, item
	}
	t.Fatal("the layout lists nothing")
	return nil, oci.Item{}
}

// A far is a registry on loopback that gives what it holds, true or not.
type far struct {
	*httptest.Server
	mu      sync.Mutex
	content map[string]*content // by repository
	asked   map[string]int      // blobs, by digest
	fault   func(w http.ResponseWriter, r *http.Request) bool
}

func newFar(t *testing.T) *far {
	f := &far{content: map[string]*content{}, asked: map[string]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

// fail lets fault answer where it returns true; nil lets none. Requests that were
// given up may still be at work.
func (f *far) fail(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *far) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	repo, ref, isBlob := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	if !isBlob {
		repo, ref, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	}
	f.mu.Lock()
	c := f.content[repo]
	if isBlob {
		f.asked[ref]++
	}
	f.mu.Unlock()
	if c == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	d := oci.Digest(ref)
	if !isBlob && !oci.IsDigest(ref) {
		d = c.root.Digest
	}
	b, ok := c.files[d]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if !isBlob {
		w.Header().Set("Content-Type", c.types[d])
		w.Header().Set("Docker-Content-Digest", string(d))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

// add lets repo hold c and opens its image.
func (f *far) add(t *testing.T, repo string, c *content) (oci.Source, oci.Item) {
	t.Helper()
	f.mu.Lock()
	f.content[repo] = c
	f.mu.Unlock()
	item := oci.Item{Ref: oci.Ref{Registry: strings.TrimPrefix(f.URL, "http://"), Repository: repo, Tag: "1"}, Desc: oci.Descriptor{Digest: c.root.Digest}}
	src, err := registry.Open(item.Ref, backend.Env{HTTP: f.Client(), PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return src, item
}

// blobReads counts the reads of each blob.
func (f *far) blobReads() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.asked)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
