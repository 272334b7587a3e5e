package publish

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// A stage is a registry on which runs play, with a door in front that notes what
// is asked and may answer itself.
type stage struct {
	*testing.T
	host, base string
	env        backend.Env
	quay       *quaytest.Server // nil where it is none
	inner      string           // a way in past the door
	secrets    []string

	mu    sync.Mutex
	asked []string // "PUT /v2/org/a/manifests/1"
	door  func(w http.ResponseWriter, r *http.Request, next http.Handler) (done bool)
}

// stages are the registries that runs are tried in.
var stages = map[string]func(*testing.T) *stage{
	"quay with an API token": func(t *testing.T) *stage { return quayStage(t, true) },
	"quay with a robot":      func(t *testing.T) *stage { return quayStage(t, false) },
	"registry":               plainStage,
}

// onStages runs test in each of stages.
func onStages(t *testing.T, test func(p *stage)) {
	for name, open := range stages {
		t.Run(name, func(t *testing.T) { test(open(t)) })
	}
}

// quayStage is a Quay with the organisation org, where the robot may create
// repositories and write; with api there is a token of its administrator too.
func quayStage(t *testing.T, api bool) *stage {
	s := quaytest.New(quaytest.Options{})
	s.CreateUser("alice", "a-password")
	s.CreateOrg("org", "alice")
	robot := s.AddRobot("org", "bot")
	if err := s.AddTeam("org", "makers", "creator", "org+bot"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDefault("org", "org+bot", "write"); err != nil {
		t.Fatal(err)
	}
	p := &stage{T: t, quay: s, secrets: []string{robot, "org+bot"}}
	p.serve(s, func(host string) transport.CredentialFunc { return transport.Fixed(host, "org+bot", robot) })
	if api {
		p.env.APIToken, p.env.QuayHost = s.AddToken("alice", "repo:admin"), p.host
		p.secrets = append(p.secrets, p.env.APIToken)
	}
	return p
}

// plainStage is a registry as the distribution specification says. It takes lists
// whose entries are missing.
func plainStage(t *testing.T) *stage {
	p := &stage{T: t}
	mem := ociserver.New(ocimem.NewWithConfig(&ocimem.Config{LaxChildReferences: true}), nil)
	p.serve(mem, func(string) transport.CredentialFunc { return nil })
	return p
}

func (p *stage) serve(next http.Handler, login func(host string) transport.CredentialFunc) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if !strings.HasPrefix(r.URL.Path, "/v2/auth") && r.URL.Path != "/v2/" {
			p.asked = append(p.asked, r.Method+" "+r.URL.Path)
		}
		door := p.door
		p.mu.Unlock()
		if door == nil || !door(w, r, next) {
			next.ServeHTTP(w, r)
		}
	}))
	p.Cleanup(server.Close)
	back := httptest.NewServer(next)
	p.Cleanup(back.Close)
	p.host, p.base, p.inner = strings.TrimPrefix(server.URL, "http://"), server.URL, back.URL
	tr, err := transport.New(transport.Options{Credentials: login(p.host), Retries: -1})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(tr.CloseIdle)
	p.env = backend.Env{HTTP: tr.Client(), PlainHTTP: true}
}

func (p *stage) publisher() *Publisher { return &Publisher{Source: p.env, Dest: p.env, Tool: "test 1"} }

// ref gives "a:1" as org's.
func (p *stage) ref(name string) oci.Ref {
	p.Helper()
	ref, err := oci.ParseRef("org/"+name, p.host)
	if err != nil {
		p.Fatal(err)
	}
	return ref
}

// push puts img there for everyone to see, under name or, without a tag, by digest.
func (p *stage) push(name string, img imagetest.Image) {
	p.Helper()
	ref := p.ref(name)
	push := func() error { return img.Push(context.Background(), p.inner, ref.Repository, ref.Tag, "") }
	if p.quay != nil {
		push = func() error { return p.quay.Push(context.Background(), ref.Repository, ref.Tag, img) }
	}
	if err := push(); err != nil {
		p.Fatal(err)
	}
}

// means gives what a tag means, read by a client that isn't ours: its bytes, "" for
// nothing.
func (p *stage) means(name string) string {
	p.Helper()
	ref := p.ref(name)
	req, err := http.NewRequestWithContext(context.Background(), "GET", p.inner+"/v2/"+ref.Repository+"/manifests/"+ref.Tag, nil)
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Accept", strings.Join([]string{oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest}, ", "))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		p.Fatal(err)
	case resp.StatusCode == 404:
		return ""
	case resp.StatusCode != 200:
		p.Fatalf("%s: %s %s", name, resp.Status, raw)
	}
	return string(raw)
}

// tags are what names are to mean; nil is nothing.
type tags map[string]*imagetest.Image

// want holds them to it.
func (p *stage) want(is tags) {
	p.Helper()
	for name, img := range is {
		want := ""
		if img != nil {
			want = string(img.Raw)
		}
		if got := p.means(name); got != want {
			p.Errorf("%s means %.90q, want %.90q", name, got, want)
		}
	}
}

// shut lets door answer in the registry's place, where it says that it did.
func (p *stage) shut(door func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.door = door
}

// log gives and forgets what was asked.
func (p *stage) log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// writes gives and forgets the requests that changed something.
func (p *stage) writes() []string {
	return slices.DeleteFunc(p.log(), func(a string) bool {
		return strings.HasPrefix(a, "GET ") || strings.HasPrefix(a, "HEAD ")
	})
}

// on answers requests of a method whose path ends with end.
func on(method, end string, do func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		hit := r.Method == method && strings.HasSuffix(r.URL.Path, end)
		if hit {
			do(w, r, next)
		}
		return hit
	}
}

// status answers as registries do.
func status(code int, word string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as told"}]}`, word)
	}
}

// Images to be moved about: each is a list, an OCI index or docker's, or single.
var (
	oldIndex  = imagetest.Index(platform(1, "amd64"), platform(2, "arm64"))
	oldList   = imagetest.Index(platform(3, "amd64"), platform(4, "s390x")).Docker()
	oldSingle = platform(5, "amd64")
	newIndex  = imagetest.Index(platform(6, "amd64"), platform(7, "arm64"))
	newSingle = platform(8, "amd64")
	others    = platform(9, "amd64")
)

func platform(seed uint64, arch string) imagetest.Image {
	return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, nil, imagetest.Random(seed, 100))
}

func content(img imagetest.Image) Content { return Content{Desc: img.Desc, Raw: img.Raw} }

// begun begins a run, which is dropped at the end of the test if it goes on.
func begun(t *testing.T, p *Publisher, command string) *run {
	t.Helper()
	r, err := p.begin(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hour is an hour from now, as exactly as Quay knows it.
func inHours(n int) time.Time {
	return time.Now().Add(time.Duration(n) * time.Hour).UTC().Truncate(time.Second)
}

// stranger gives a client without a login.
func stranger(t *testing.T) *http.Client {
	t.Helper()
	tr, err := transport.New(transport.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	return tr.Client()
}
