package publish_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
	"github.com/quaymaster/quaymaster/quay"
)

func TestGuardTemplates(t *testing.T) {
	long := strings.Repeat("x", 125)
	for _, tt := range []struct {
		template, tag string
		ok            bool
	}{
		{"{tag}-{timestamp}", "latest", true},
		{"guard-{digest}", "latest", true},
		{"{digest}", "latest", true},
		{"{timestamp}", "latest", false},
		{"{tag}", "latest", false},
		{"old", "latest", false},
		{"{tag}-{timestamp}-{run}", "latest", false},
		{"{tag}-{timestamp}", long, false},
		{"-{tag}-{timestamp}", "latest", false},
		{"{tag}/{digest}", "latest", false},
	} {
		s := newStage(t, plainArena)
		s.opt.Guard.Template = tt.template
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		s.to.on(nil)
		_, err := s.push("src/a:1 > a:" + tt.tag)
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q of %s gave %v", tt.template, tt.tag, err)
		}
		if !tt.ok && len(s.to.requests()) != 0 {
			t.Errorf("%q: something was asked", tt.template)
		}
	}
}

// A guard tag is there before the tag moves, of each tag that does, whatever way; a
// failure takes it away again.
func TestGuardComesFirst(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		s.opt.Guard.Template = "keep-{digest}"
		s.from.push("src/a:1", s.cast.fresh())
		s.to.push("org/a:same", s.cast.fresh())
		s.to.push("org/a:old", s.cast.old())
		s.to.on(nil)
		r := s.mustPush("src/a:1 > a:same,new,old")
		s.is(r, "org/a:same unchanged, org/a:new pushed, org/a:old merged")
		simple := "org/a:keep-" + s.cast.fresh().Desc.Digest.Encoded()
		if puts := s.to.puts(); len(puts) != 4 || puts[0] != simple || puts[1] != "org/a:new" || !strings.HasPrefix(puts[2], "org/a:keep-") || puts[3] != "org/a:old" {
			t.Errorf("written %q", puts)
		}
		s.to.means(simple, s.cast.fresh())

		hook, _ := failing(http.MethodPut, "/org/b/manifests/new", http.StatusForbidden, 1000)
		s.to.on(hook)
		if _, err := s.push("src/a:1 > b:new"); err == nil {
			t.Error("no error")
		}
		if _, raw := s.to.get(strings.Replace(simple, "/a:", "/b:", 1)); raw != nil {
			t.Error("the guard tag of a failed push is left behind")
		}
	})
}

// On a Quay whose API may be used guard tags expire; elsewhere that is said.
func TestGuardExpires(t *testing.T) {
	s := newStage(t, plainArena)
	s.opt.Guard = publish.Guard{Template: publish.DefaultGuard, Expire: 48 * time.Hour}
	s.from.push("src/a:1", s.cast.image("amd64=1"))
	warned(t, s.mustPush("src/a:1 > a:1"), "is no Quay")

	server := quaytest.New(quaytest.Options{TagCache: -1})
	server.CreateUser("admin", "secret")
	server.CreateOrg("org", "admin")
	token := server.AddToken("admin", "repo:read", "repo:write", "repo:admin", "repo:create")
	s.to.serve(server, func(host string) transport.CredentialFunc { return transport.Fixed(host, "admin", "secret") })
	s.pub.Dest = backend.Env{HTTP: s.to.env.HTTP, PlainHTTP: true, QuayHost: s.to.host, APIToken: token}
	r := s.mustPush("src/a:1 > a:1")
	s.is(r, "org/a:1 pushed")
	client := &quay.Client{Host: s.to.host, Token: token, HTTP: s.to.env.HTTP, PlainHTTP: true}
	for _, c := range r.Items[0].Changes {
		ref, err := oci.ParseRef(c.Reference, "")
		if err != nil {
			t.Fatal(err)
		}
		tag, err := client.Tag(t.Context(), ref.Repository, ref.Tag)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(tag.End); (c.Companion == "guard") != (!tag.End.IsZero() && left > 47*time.Hour && left <= 48*time.Hour) {
			t.Errorf("%s expires %v", c.Reference, tag.End)
		}
	}
}

// guards gives what a report says of guard tags.
func guards(r *publish.Report) (out []publish.Change) {
	for _, c := range r.Items[0].Changes {
		if c.Companion == "guard" {
			out = append(out, c)
		}
	}
	return out
}

// The guard tag of a list that is made anew, because somebody moved the tag, goes away.
func TestGuardOfWhatNeverWas(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/src:1", c.fresh())
		a.push("org/a:1", c.old())
		var once sync.Once
		a.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/org/a/manifests/1") {
				once.Do(func() { a.push("org/a:1", c.list("arm64=1111", "riscv64=9999")) })
			}
			return false
		})
		p := a.publisher()
		p.Journal = filepath.Join(t.TempDir(), "journal")
		report, err := p.Merge(t.Context(), a.ref("org/src:1"), a.ref("org/a:1"), publish.MergeOptions{Guard: publish.Guard{Template: "keep-{digest}"}})
		if err != nil {
			t.Fatal(err)
		}
		now := only(t, report).New
		want := "keep-" + now.Encoded()
		if got := guards(report); len(got) != 1 || got[0].New != now || got[0].Status != publish.Pushed {
			t.Errorf("reported as %+v", got)
		}
		if got := a.tags("org/a"); !slices.Equal(got, []string{"1", want}) {
			t.Errorf("the tags are %q, want 1 and %s", got, want)
		}
		again := a.publisher()
		if _, err := again.Undo(t.Context(), p.Journal, publish.UndoOptions{}); err != nil {
			t.Error(err)
		}
		if got := a.tags("org/a"); !slices.Equal(got, []string{"1"}) {
			t.Errorf("after a rollback the tags are %q", got)
		}
	})
}

// What is tried again as it is keeps its guard tag, and gets no second one.
func TestGuardOfWhatIsTriedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/a:new", c.fresh())
		a.push("org/a:1", c.old())
		n := 0
		a.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/org/a/manifests/1") {
				if n++; n == 1 {
					a.push("org/a:1", c.image("amd64=1"))
				}
			}
			return false
		})
		report, err := a.publisher().Tag(t.Context(), a.ref("org/a:new"), a.refs("org/a:1"), publish.TagOptions{Guard: publish.Guard{Template: "keep-{digest}"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := guards(report); len(got) != 1 || got[0].Status != publish.Pushed || only(t, report).Attempts != 2 {
			t.Errorf("reported as %+v", got)
		}
	})
}

// Somebody takes the name of a guard tag between the look and the write: it gets the
// next one.
func TestGuardWhoseNameIsTaken(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/a:new", c.fresh())
		var once sync.Once
		taken := ""
		a.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if tag, ok := strings.CutPrefix(r.URL.Path, "/v2/org/a/manifests/1-"); ok && r.Method == http.MethodHead {
				once.Do(func() {
					taken = "1-" + tag
					a.push("org/a:"+taken, c.old())
				})
			}
			return false
		})
		report, err := a.publisher().Tag(t.Context(), a.ref("org/a:new"), a.refs("org/a:1"), publish.TagOptions{Guard: publish.Guard{Template: publish.DefaultGuard}})
		if err != nil {
			t.Fatal(err)
		}
		a.on(nil)
		a.means("org/a:"+taken, c.old())
		a.means("org/a:1", c.fresh())
		got := guards(report)
		if len(got) != 1 || got[0].Status != publish.Pushed || strings.HasSuffix(got[0].Reference, taken) {
			t.Fatalf("reported as %+v", got)
		}
		a.means(strings.TrimPrefix(got[0].Reference, a.host+"/"), c.fresh())
	})
}
