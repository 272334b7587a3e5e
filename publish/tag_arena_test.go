package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// An arena is a registry in which tags are moved, with a place in front where a
// test sees each request and may answer it.
type arena struct {
	t    *testing.T
	host string
	env  backend.Env
	put  func(repo, tag string, img imagetest.Image) error // by no request that is counted
	quay *quaytest.Server                                  // nil where it is none
	next http.Handler                                      // the registry itself

	mu    sync.Mutex
	asked []string                                                 // "PUT /v2/org/a/manifests/1", without those for tokens
	hook  func(w http.ResponseWriter, r *http.Request) (done bool) // before the registry
}

// arenas are the registries that what is true of all registries is shown on.
var arenas = map[string]func(*testing.T) *arena{"quay": quayArena, "plain": plainArena}

// everywhere runs test on each of arenas.
func everywhere(t *testing.T, test func(t *testing.T, a *arena)) {
	for name, open := range arenas {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// quayArena is a Quay with the organisation org, whose robot may do all but
// administer.
func quayArena(t *testing.T) *arena {
	s := quaytest.New(quaytest.Options{TagCache: -1})
	s.CreateOrg("org")
	robot := s.AddRobot("org", "bot")
	if err := s.AddTeam("org", "makers", "creator", "org+bot"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDefault("org", "org+bot", "write"); err != nil {
		t.Fatal(err)
	}
	a := &arena{t: t, quay: s, put: func(repo, tag string, img imagetest.Image) error { return s.Push(t.Context(), repo, tag, img) }}
	a.serve(s, func(host string) transport.CredentialFunc { return transport.Fixed(host, "org+bot", robot) })
	return a
}

// plainArena is a registry as the distribution specification says, and no more.
func plainArena(t *testing.T) *arena {
	a := &arena{t: t}
	mem := ocimem.NewWithConfig(&ocimem.Config{LaxChildReferences: true})
	inner := httptest.NewServer(ociserver.New(mem, nil))
	t.Cleanup(inner.Close)
	a.put = func(repo, tag string, img imagetest.Image) error {
		return img.Push(t.Context(), inner.URL, repo, tag, "")
	}
	a.serve(ociserver.New(mem, nil), func(string) transport.CredentialFunc { return nil })
	return a
}

func (a *arena) serve(next http.Handler, login func(host string) transport.CredentialFunc) {
	a.t.Helper()
	a.next = next
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		if !strings.HasPrefix(r.URL.Path, "/v2/auth") && r.URL.Path != "/v2/" {
			a.asked = append(a.asked, r.Method+" "+r.URL.Path)
		}
		hook := a.hook
		a.mu.Unlock()
		if hook == nil || !hook(w, r) {
			next.ServeHTTP(w, r)
		}
	}))
	a.t.Cleanup(server.Close)
	a.host = strings.TrimPrefix(server.URL, "http://")
	tr, err := transport.New(transport.Options{Credentials: login(a.host), Retries: -1})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(tr.CloseIdle)
	a.env = backend.Env{HTTP: tr.Client(), PlainHTTP: true}
}

// publisher gives one that reads and writes a, as the program makes it by default.
func (a *arena) publisher() *publish.Publisher {
	return &publish.Publisher{Source: a.env, Dest: a.env, Companions: true}
}

// ref reads "org/a:1" as a's.
func (a *arena) ref(name string) oci.Ref {
	ref, err := oci.ParseRef(name, a.host)
	if err != nil {
		a.t.Fatal(err)
	}
	return ref
}

func (a *arena) refs(names ...string) []oci.Ref {
	var out []oci.Ref
	for _, n := range names {
		out = append(out, a.ref(n))
	}
	return out
}

// push puts img into the registry as "org/a:1"; "org/a:" gives it no tag.
func (a *arena) push(name string, img imagetest.Image) {
	a.t.Helper()
	repo, tag, _ := strings.Cut(name, ":")
	if err := a.put(repo, tag, img); err != nil {
		a.t.Fatal(err)
	}
}

// on lets hook see each request from now on, and forgets those that came.
func (a *arena) on(hook func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook, a.asked = hook, nil
}

// requests gives those since the last call of on, without those that begin with one
// of without.
func (a *arena) requests(without ...string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.asked), func(r string) bool {
		return slices.ContainsFunc(without, func(w string) bool { return strings.HasPrefix(r, w) })
	})
}

// puts gives the manifests that were written by tag.
func (a *arena) puts() []string {
	var out []string
	for _, r := range a.requests() {
		if path, ok := strings.CutPrefix(r, "PUT /v2/"); ok && !strings.Contains(r, "sha256:") && strings.Contains(r, "/manifests/") {
			out = append(out, strings.Replace(path, "/manifests/", ":", 1))
		}
	}
	return out
}

// get reads what "org/a:1" means, "" for nothing.
func (a *arena) get(name string) (mt string, raw []byte) {
	a.t.Helper()
	repo, err := openRepository(a, name)
	if err != nil {
		a.t.Fatal(err)
	}
	desc, raw, err := repo.Resolve(context.WithoutCancel(a.t.Context()), a.ref(name).Tag)
	if err != nil {
		return "", nil
	}
	return desc.MediaType, raw
}

// tags lists the tags of "org/a", sorted.
func (a *arena) tags(repo string) []string {
	a.t.Helper()
	opened, err := openRepository(a, repo+":1")
	if err != nil {
		a.t.Fatal(err)
	}
	var out []string
	for tag, err := range opened.(oci.TagLister).Tags(context.WithoutCancel(a.t.Context())) {
		if err != nil {
			a.t.Fatal(err)
		}
		out = append(out, tag)
	}
	slices.Sort(out)
	return out
}

// means fails the test unless "org/a:1" means want's bytes.
func (a *arena) means(name string, want imagetest.Image) {
	a.t.Helper()
	if mt, raw := a.get(name); !bytes.Equal(raw, want.Raw) || mt != want.Desc.MediaType {
		a.t.Errorf("%s means %s %s, want %s %s", name, mt, raw, want.Desc.MediaType, want.Raw)
	}
}

// entries gives the digests that the list "org/a:1" names, in its order, by the names
// that known gives them.
func (a *arena) entries(name string, known map[oci.Digest]string) string {
	a.t.Helper()
	mt, raw := a.get(name)
	if raw == nil {
		return "nothing"
	}
	ix, err := index.Parse(mt, raw)
	if err != nil {
		a.t.Fatal(err)
	}
	var out []string
	for _, d := range ix.Entries {
		out = append(out, known[d.Digest])
	}
	return strings.Join(out, " ")
}

// A cast is images by name, made as they are asked for.
type cast struct {
	docker bool
	images map[string]imagetest.Image
	names  map[oci.Digest]string
}

func newCast() *cast {
	return &cast{images: map[string]imagetest.Image{}, names: map[oci.Digest]string{}}
}

// image gives the image called "arm64=6666": of linux/arm64, with 6666 in its layer. The
// same name gives the same image. "windows/amd64:10.0.17763.1=7" is another platform.
func (c *cast) image(name string) imagetest.Image {
	if img, ok := c.images[name]; ok {
		return img
	}
	platform, body, _ := strings.Cut(name, "=")
	var p oci.Platform
	platform, p.OSVersion, _ = strings.Cut(platform, ":")
	parts := strings.Split(platform, "/")
	if p.OS = "linux"; parts[0] == "windows" || parts[0] == "linux" {
		p.OS, parts = parts[0], parts[1:]
	}
	p.Architecture = parts[0]
	if len(parts) > 1 {
		p.Variant = parts[1]
	}
	img := imagetest.New(p, nil, imagetest.Files(map[string]string{"id": body}))
	if c.docker {
		img = img.Docker()
	}
	c.images[name], c.names[img.Desc.Digest] = img, body
	return img
}

// list gives the list of the images called so.
func (c *cast) list(names ...string) imagetest.Image {
	var children []imagetest.Image
	for _, n := range names {
		children = append(children, c.image(n))
	}
	return c.listOf(nil, children...)
}

// listOf is list, with edit applied to each entry.
func (c *cast) listOf(edit func(i int, entry map[string]any), children ...imagetest.Image) imagetest.Image {
	img := imagetest.Index(children...)
	var doc map[string]any
	if err := json.Unmarshal(img.Raw, &doc); err != nil {
		panic(err)
	}
	if c.docker {
		doc["mediaType"] = oci.MediaTypeDockerList
		img.Desc.MediaType = oci.MediaTypeDockerList
	}
	if edit != nil {
		for i, e := range doc["manifests"].([]any) {
			edit(i, e.(map[string]any))
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	img.Raw, img.Desc.Digest, img.Desc.Size = raw, digest.FromBytes(raw), int64(len(raw))
	return img
}

// fresh and old are the lists of the acceptance statements.
func (c *cast) fresh() imagetest.Image { return c.list("arm64=6666", "ppc64le=7777", "s390x=8888") }
func (c *cast) old() imagetest.Image {
	return c.list("arm64=1111", "armhfp=2222", "ppc64le=3333", "amd64=5555")
}

// actions gives what a change says of platforms: "added linux/arm64".
func actions(c publish.Change) string {
	var out []string
	for _, p := range c.Platforms {
		out = append(out, p.Action+" "+strings.TrimPrefix(p.Platform, "linux/"))
	}
	return strings.Join(out, ", ")
}

// only gives the one change of a report that is of a tag of its own.
func only(t *testing.T, r *publish.Report) publish.Change {
	t.Helper()
	var own []publish.Change
	for _, c := range r.Items[0].Changes {
		if c.Companion == "" {
			own = append(own, c)
		}
	}
	if len(own) != 1 {
		t.Fatalf("%d changes, want 1: %+v", len(own), r.Items[0].Changes)
	}
	return own[0]
}

// answer gives an error as registries do.
func answer(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"says the test"}]}`, code)
	return true
}

// openRepository opens the repository of "org/a:1" past the run's own connections.
func openRepository(a *arena, name string) (oci.Source, error) {
	return registry.OpenRepository(a.ref(name), a.env)
}
