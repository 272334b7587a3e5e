package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
	"github.com/quaymaster/quaymaster/quay"
)

// A past is a Quay with a clock, in whose org/app the tag v1 was, an hour each,
// first, second, nothing, third, and is that now; keep is second all the time.
type past struct {
	*quaytest.Server
	host                 string
	start                time.Time // of v1, whole hours back
	first, second, third imagetest.Image
	ahead                atomic.Int64 // what the server's clock is ahead of ours, nanoseconds
	hook                 atomic.Pointer[func(*http.Request)]
	writes               atomic.Int32 // requests that could change something
}

func newPast(t *testing.T) *past {
	t.Helper()
	p := &past{
		start: time.Now().UTC().Truncate(time.Second).Add(-4 * time.Hour),
		first: artifact(1), second: artifact(2), third: artifact(3),
	}
	p.Server = quaytest.New(quaytest.Options{TagCache: -1, Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }})
	p.CreateUser("alice", "secret")
	p.CreateOrg("org", "alice")
	if err := p.CreateRepository("org", "app", true); err != nil {
		t.Fatal(err)
	}
	for i, do := range []func() error{
		func() error { return p.Push(t.Context(), "org/app", "v1", p.first) },
		func() error {
			return errors.Join(p.Push(t.Context(), "org/app", "v1", p.second), p.Push(t.Context(), "org/app", "keep", p.second))
		},
		func() error { return p.DeleteTag("org/app", "v1") },
		func() error { return p.Push(t.Context(), "org/app", "v1", p.third) },
	} {
		p.ahead.Store(int64(time.Until(p.start.Add(time.Duration(i)*time.Hour + time.Millisecond))))
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	p.ahead.Store(0)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			p.writes.Add(1)
		}
		if hook := p.hook.Load(); hook != nil {
			(*hook)(r)
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	p.host = strings.TrimPrefix(front.URL, "http://")
	return p
}

func artifact(seed uint64) imagetest.Image {
	return imagetest.New(imagetest.Linux, nil, imagetest.Random(seed, 100))
}

// publisher gives one with alice's login, and with her API token if token is set.
func (p *past) publisher(t *testing.T, token bool) *publish.Publisher {
	t.Helper()
	env := backend.Env{PlainHTTP: true, QuayHost: p.host}
	env.HTTP = clientFor(t, transport.Fixed(p.host, "alice", "secret"))
	if token {
		env.APIToken = p.AddToken("alice", "repo:admin")
	}
	return &publish.Publisher{Source: env, Dest: env}
}

func clientFor(t *testing.T, login transport.CredentialFunc) *http.Client {
	t.Helper()
	tr, err := transport.New(transport.Options{Credentials: login, Retries: -1, RateLimit: new(float64)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	return tr.Client()
}

func (p *past) ref(tag string) oci.Ref {
	return oci.Ref{Registry: p.host, Repository: "org/app", Tag: tag}
}

// means gives what a tag means now, "" for nothing.
func (p *past) means(t *testing.T, tag string) oci.Digest {
	t.Helper()
	c := &quay.Client{Host: p.host, HTTP: http.DefaultClient, PlainHTTP: true}
	got, err := c.Tag(t.Context(), "org/app", tag)
	if errors.Is(err, oci.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return got.Digest
}

// name gives the images of p their names in test output.
func (p *past) name(d oci.Digest) string {
	return map[oci.Digest]string{"": "nothing", p.first.Desc.Digest: "first", p.second.Desc.Digest: "second", p.third.Desc.Digest: "third"}[d]
}

func TestRestore(t *testing.T) {
	at := func(d time.Duration) func(p *past) publish.RestoreOptions {
		return func(p *past) publish.RestoreOptions { return publish.RestoreOptions{AsOf: p.start.Add(d)} }
	}
	to := func(img func(p *past) imagetest.Image) func(p *past) publish.RestoreOptions {
		return func(p *past) publish.RestoreOptions { return publish.RestoreOptions{Digest: img(p).Desc.Digest} }
	}
	first := func(p *past) imagetest.Image { return p.first }
	tests := []struct {
		name, tag string
		opt       func(p *past) publish.RestoreOptions
		before    func(p *past) error // nil: nothing
		want      string
		status    publish.Status
	}{
		{name: "what it meant before its newest change", tag: "v1", want: "second", status: publish.Restored},
		{name: "a deleted tag", tag: "v1", before: func(p *past) error { return p.DeleteTag("org/app", "v1") }, want: "third", status: publish.Restored},
		{name: "what it meant for the first hour", tag: "v1", opt: at(time.Minute), want: "first", status: publish.Restored},
		{name: "from its first second on", tag: "v1", opt: at(time.Hour), want: "second", status: publish.Restored},
		{name: "up to its last second", tag: "v1", opt: at(time.Hour - time.Second), want: "first", status: publish.Restored},
		{name: "what it means anyway", tag: "v1", opt: at(3*time.Hour + time.Minute), want: "third", status: publish.Unchanged},
		{name: "a digest that no tag has any more", tag: "v1", opt: to(first), want: "first", status: publish.Restored},
		{name: "a digest that it never was", tag: "keep", opt: to(first), want: "first", status: publish.Restored},
		{name: "a tag that never was", tag: "new", opt: to(first), want: "first", status: publish.Restored},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPast(t)
			if tt.before != nil {
				if err := tt.before(p); err != nil {
					t.Fatal(err)
				}
			}
			var opt publish.RestoreOptions
			if tt.opt != nil {
				opt = tt.opt(p)
			}
			old := p.means(t, tt.tag)
			pub := p.publisher(t, true)
			pub.DryRun = true
			plan, err := pub.Restore(t.Context(), p.ref(tt.tag), opt)
			if err != nil || p.writes.Load() != 0 || p.means(t, tt.tag) != old {
				t.Fatalf("the dry run: %v, %d writes", err, p.writes.Load())
			}
			pub.DryRun = false
			report, err := pub.Restore(t.Context(), p.ref(tt.tag), opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.name(p.means(t, tt.tag)); got != tt.want {
				t.Errorf("it means %s, want %s", got, tt.want)
			}
			got, planned := report.Items[0].Changes[0], plan.Items[0].Changes[0]
			if got.Status != tt.status || got.Old != old || p.name(got.New) != tt.want || got.Error != "" {
				t.Errorf("reported %+v", got)
			}
			if planned.Old != got.Old || planned.New != got.New || (planned.Status == publish.Unchanged) != (got.Status == publish.Unchanged) {
				t.Errorf("planned %+v, did %+v", planned, got)
			}
			if n := p.writes.Load(); n != map[publish.Status]int32{publish.Restored: 1}[tt.status] {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// Twice is there and back: what was restored is a change like any other.
func TestRestoreTwice(t *testing.T) {
	p := newPast(t)
	for _, want := range []string{"second", "third", "second"} {
		if _, err := p.publisher(t, true).Restore(t.Context(), p.ref("v1"), publish.RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := p.name(p.means(t, "v1")); got != want {
			t.Errorf("it means %s, want %s", got, want)
		}
		p.ahead.Add(int64(time.Minute)) // or two changes have one time
	}
}

func TestRestoreRefuses(t *testing.T) {
	tests := []struct {
		name, tag string
		opt       func(p *past) publish.RestoreOptions
		kind      error
		says      string
	}{
		{"a time when there was no such tag", "v1", func(p *past) publish.RestoreOptions {
			return publish.RestoreOptions{AsOf: p.start.Add(2*time.Hour + time.Minute)}
		}, oci.ErrNotFound, "it had ended at"},
		{"a time before all", "v1", func(p *past) publish.RestoreOptions {
			return publish.RestoreOptions{AsOf: p.start.Add(-time.Hour)}
		}, oci.ErrNotFound, "the time machine keeps what has ended for 14 days"},
		{"a tag that meant nothing else", "keep", func(*past) publish.RestoreOptions { return publish.RestoreOptions{} }, oci.ErrNotFound, "the tag meant nothing else"},
		{"a tag that never was", "never", func(*past) publish.RestoreOptions { return publish.RestoreOptions{} }, oci.ErrNotFound, "knows nothing of the tag"},
		{"a digest that never was", "v1", func(*past) publish.RestoreOptions {
			return publish.RestoreOptions{Digest: digest.FromString("x")}
		}, oci.ErrNotFound, "14 days"},
		{"a time to come", "v1", func(*past) publish.RestoreOptions {
			return publish.RestoreOptions{AsOf: time.Now().Add(time.Hour)}
		}, oci.ErrUsage, "will mean"},
		{"a digest and a time", "v1", func(p *past) publish.RestoreOptions {
			return publish.RestoreOptions{AsOf: p.start, Digest: p.first.Desc.Digest}
		}, oci.ErrUsage, "not both"},
		{"a digest that is none", "v1", func(*past) publish.RestoreOptions { return publish.RestoreOptions{Digest: "sha256:x"} }, oci.ErrUsage, "digest"},
		{"no tag", "", func(*past) publish.RestoreOptions { return publish.RestoreOptions{} }, oci.ErrUsage, "only a tag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPast(t)
			_, err := p.publisher(t, true).Restore(t.Context(), p.ref(tt.tag), tt.opt(p))
			if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, want %v and %q", err, tt.kind, tt.says)
			}
			if got := p.name(p.means(t, "v1")); got != "third" {
				t.Errorf("v1 means %s", got)
			}
		})
	}
}

// What the time machine has let go is gone, and the text says how far it reaches.
func TestRestoreOutsideTheWindow(t *testing.T) {
	p := newPast(t)
	p.ahead.Store(int64(15 * 24 * time.Hour))
	_, err := p.publisher(t, true).Restore(t.Context(), p.ref("v1"), publish.RestoreOptions{})
	if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(fmt.Sprint(err), "for 14 days") {
		t.Errorf("got %v", err)
	}
}

// Without an API token the manifest must be there by its digest, as in every registry.
func TestRestoreWithoutAToken(t *testing.T) {
	p := newPast(t)
	pub := p.publisher(t, false)
	_, err := pub.Restore(t.Context(), p.ref("v1"), publish.RestoreOptions{Digest: p.first.Desc.Digest})
	if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(fmt.Sprint(err), "API token") || p.writes.Load() != 0 {
		t.Errorf("what only the time machine has: %v, %d writes", err, p.writes.Load())
	}
	// keep still leads to second.
	report, err := pub.Restore(t.Context(), p.ref("v1"), publish.RestoreOptions{})
	if err != nil || report.Items[0].Changes[0].Status != publish.Restored || p.name(p.means(t, "v1")) != "second" {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestRestoreInAnyRegistry(t *testing.T) {
	server := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	t.Cleanup(server.Close)
	env := backend.Env{PlainHTTP: true, HTTP: clientFor(t, nil)}
	pub := &publish.Publisher{Source: env, Dest: env}
	old, now := artifact(1), artifact(2)
	for _, img := range []imagetest.Image{old, now} {
		if err := img.Push(t.Context(), server.URL, "a", "v1", ""); err != nil {
			t.Fatal(err)
		}
	}
	ref := oci.Ref{Registry: strings.TrimPrefix(server.URL, "http://"), Repository: "org/a", Tag: "v1"}
	for _, name := range []string{"org/a", "a"} { // no Quay, and no name that one could have
		ref.Repository = name
		if _, err := pub.Restore(t.Context(), ref, publish.RestoreOptions{}); !errors.Is(err, oci.ErrUnsupported) || !strings.Contains(err.Error(), "--digest") {
			t.Errorf("%s without a digest: %v", name, err)
		}
	}
	report, err := pub.Restore(t.Context(), ref, publish.RestoreOptions{Digest: old.Desc.Digest})
	if err != nil {
		t.Fatal(err)
	}
	if c := report.Items[0].Changes[0]; c.Status != publish.Restored || c.Old != now.Desc.Digest || c.New != old.Desc.Digest {
		t.Errorf("reported %+v", c)
	}
	head, err := http.Head(server.URL + "/v2/a/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	_ = head.Body.Close()
	if got := head.Header.Get("Docker-Content-Digest"); got != string(old.Desc.Digest) {
		t.Errorf("v1 means %s", got)
	}
}

// Somebody moves the tag between our look and our write: it is decided anew, from
// what it means then.
func TestRestoreOfATagThatMoves(t *testing.T) {
	p := newPast(t)
	var looks atomic.Int32
	hook := func(r *http.Request) {
		if r.URL.Query().Get("onlyActiveTags") != "" && looks.Add(1) == 1 { // the look before the write
			if err := p.MoveTag("org/app", "v1", p.first.Desc.Digest); err != nil {
				t.Error(err)
			}
		}
	}
	p.hook.Store(&hook)
	report, err := p.publisher(t, true).Restore(t.Context(), p.ref("v1"), publish.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := report.Items[0].Changes[0]
	if c.Status != publish.Restored || c.Old != p.first.Desc.Digest || c.New != p.third.Desc.Digest || c.Attempts != 2 {
		t.Errorf("reported %+v", c)
	}
}
