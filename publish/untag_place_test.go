package publish_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A place is an arena that tags are deleted from. It sees only requests that the
// registry let in: those that ask for a login aren't counted.
type place struct {
	*arena
	quay *quaytest.Server // nil where it is none
	api  string           // a token of its API, of an administrator

	seenMu sync.Mutex
	seen   []string
}

// quayPlace is a Quay with the organisations name and name2. With api the publisher
// has a token of its API, and logs in by a robot in either case.
func quayPlace(t *testing.T, o quaytest.Options, api bool) *place {
	t.Helper()
	s := quaytest.New(o)
	s.CreateUser("alice", "secret")
	p := &place{quay: s, api: s.AddToken("alice", "repo:admin")}
	for _, org := range []string{"name", "name2"} {
		s.CreateOrg(org, "alice")
		if err := s.SetDefault(org, "name+bot", "write"); err != nil {
			t.Fatal(err)
		}
	}
	robot := s.AddRobot("name", "bot")
	p.arena = &arena{t: t, put: func(repo, tag string, img imagetest.Image) error { return s.Push(t.Context(), repo, tag, img) }}
	p.serve(p.counting(s), func(string) transport.CredentialFunc { return nil })
	p.unlimited(transport.Fixed(p.host, "name+bot", robot))
	if api {
		p.env.QuayHost, p.env.APIToken = p.host, p.api
	}
	return p
}

// plainPlace is a registry as the distribution specification says, and no more.
func plainPlace(t *testing.T) *place {
	t.Helper()
	registry := ociserver.New(ocimem.NewWithConfig(&ocimem.Config{LaxChildReferences: true}), nil)
	inner := httptest.NewServer(registry)
	t.Cleanup(inner.Close)
	p := &place{arena: &arena{t: t}}
	p.put = func(repo, tag string, img imagetest.Image) error {
		return img.Push(t.Context(), inner.URL, repo, tag, "")
	}
	p.serve(p.counting(registry), func(string) transport.CredentialFunc { return nil })
	p.unlimited(nil)
	return p
}

// unlimited lets requests go out as fast as they can: a Quay's own limit would let a
// test of hundreds of tags take a minute.
func (p *place) unlimited(login transport.CredentialFunc) {
	tr, err := transport.New(transport.Options{Credentials: login, Retries: -1, RateLimit: new(float64)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(tr.CloseIdle)
	p.env.HTTP = tr.Client()
}

// places are registries of each kind that tags are deleted from in another way.
var places = map[string]func(*testing.T) *place{
	"quay, by its API":   func(t *testing.T) *place { return quayPlace(t, quaytest.Options{}, true) },
	"quay, by a login":   func(t *testing.T) *place { return quayPlace(t, quaytest.Options{TagCache: -1}, false) },
	"any other registry": plainPlace,
}

func inPlaces(t *testing.T, test func(t *testing.T, p *place)) {
	for name, open := range places {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// counting notes requests that are answered with anything but 401.
func (p *place) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(c, r)
		if c.status != http.StatusUnauthorized && !strings.HasPrefix(r.URL.Path, "/v2/auth") && r.URL.Path != "/v2/" {
			p.seenMu.Lock()
			defer p.seenMu.Unlock()
			p.seen = append(p.seen, r.Method+" "+r.URL.Path)
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// answered gives the requests that were let in since the last call.
func (p *place) answered() []string {
	p.seenMu.Lock()
	defer p.seenMu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// deletes gives what was asked to be deleted since the last call: "name/repo:1".
func (p *place) deletes() []string {
	var out []string
	for _, r := range p.answered() {
		if path, ok := strings.CutPrefix(r, "DELETE /v2/"); ok {
			out = append(out, strings.Replace(path, "/manifests/", ":", 1))
		}
		if path, ok := strings.CutPrefix(r, "DELETE /api/v1/repository/"); ok {
			out = append(out, strings.Replace(path, "/tag/", ":", 1))
		}
	}
	return out
}

// fill pushes the fixture: tags 1 and 2 on a list of five platforms, 3 and 4 on
// another. It gives what the list and its images are, in its order.
func (p *place) fill(repo string) (list imagetest.Image, lost []oci.Digest) {
	c := newCast()
	list = c.list("amd64=2e8f", "arm64=b3f9", "arm=496f", "ppc64le=146a", "s390x=bbef")
	lost = []oci.Digest{list.Desc.Digest}
	for _, child := range list.Children {
		lost = append(lost, child.Desc.Digest)
	}
	for _, tag := range []string{"1", "2"} {
		p.push(repo+":"+tag, list)
	}
	other := c.list("amd64=7807", "arm64=7808")
	for _, tag := range []string{"3", "4"} {
		p.push(repo+":"+tag, other)
	}
	return list, lost
}

// tags gives the tags of repo that are there.
func (p *place) tags(repo string, names ...string) string {
	var there []string
	for _, n := range names {
		if _, raw := p.get(repo + ":" + n); raw != nil {
			there = append(there, n)
		}
	}
	return strings.Join(there, " ")
}

// statuses gives the changes of an item: "deleted name/repo:1".
func (p *place) statuses(r *publish.Report) []string {
	var out []string
	for _, item := range r.Items {
		for _, c := range item.Changes {
			out = append(out, string(c.Status)+" "+strings.TrimPrefix(c.Reference, p.host+"/"))
		}
	}
	return out
}

func (p *place) wantStatuses(r *publish.Report, want ...string) {
	p.t.Helper()
	if got := p.statuses(r); !slices.Equal(got, want) {
		p.t.Errorf("the report says %q, want %q", got, want)
	}
}

func (p *place) wantDeletes(want ...string) {
	p.t.Helper()
	if got := p.deletes(); !slices.Equal(got, want) {
		p.t.Errorf("deleted %q, want %q", got, want)
	}
}

// is fails the test unless err matches all of kinds.
func is(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if !errors.Is(err, k) {
			t.Errorf("got %v, want an error that matches %q", err, k)
		}
	}
}
