package publish_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
	"github.com/quaymaster/quaymaster/quay"
)

// A guard tag that is there already is kept longer, never shorter.
func TestGuardIsProlonged(t *testing.T) {
	s := newStage(t, plainArena)
	img := s.cast.image("amd64=1")
	s.from.push("src/a:1", img)
	server := quaytest.New(quaytest.Options{TagCache: -1})
	server.CreateUser("admin", "secret")
	server.CreateOrg("org", "admin")
	token := server.AddToken("admin", "repo:read", "repo:write", "repo:admin", "repo:create")
	s.to.serve(server, func(host string) transport.CredentialFunc { return transport.Fixed(host, "admin", "secret") })
	s.pub.Dest = backend.Env{HTTP: s.to.env.HTTP, PlainHTTP: true, QuayHost: s.to.host, APIToken: token}
	client := &quay.Client{Host: s.to.host, Token: token, HTTP: s.to.env.HTTP, PlainHTTP: true}
	name := "keep-" + img.Desc.Digest.Encoded()
	for _, tt := range []struct {
		tag        string
		asks, want time.Duration // 0 is for ever
	}{
		{"1", 48 * time.Hour, 48 * time.Hour},
		{"2", 24 * time.Hour, 48 * time.Hour},
		{"3", 72 * time.Hour, 72 * time.Hour},
		{"4", 0, 0},
		{"5", 24 * time.Hour, 0},
	} {
		s.opt.Guard = publish.Guard{Template: "keep-{digest}", Expire: tt.asks}
		r := s.mustPush("src/a:1 > a:" + tt.tag)
		if got := guards(r); len(got) != 1 || len(got[0].Warnings) > 0 || (got[0].Status == publish.Pushed) != (tt.tag == "1") {
			t.Errorf("tag %s: %+v", tt.tag, got)
		}
		tag, err := client.Tag(t.Context(), "org/a", name)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(tag.End); tt.want == 0 != tag.End.IsZero() || tt.want > 0 && (left > tt.want || left < tt.want-time.Hour) {
			t.Errorf("tag %s: it expires %v, want %v from now", tt.tag, tag.End, tt.want)
		}
	}

	hook, _ := failing(http.MethodGet, "/api/v1/repository/org/a/tag/", http.StatusForbidden, 1000)
	s.to.on(func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Query().Get("specificTag") == name && hook(w, r)
	})
	warned(t, s.mustPush("src/a:1 > a:6"), "it may go away sooner")
}

// A dry run says which guard tags there will be, as far as can be known.
func TestGuardIsPlanned(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		img := s.cast.image("amd64=1")
		s.from.push("src/a:1", img)
		s.to.push("org/a:same", img)
		s.to.push("org/a:old", s.cast.image("amd64=2"))
		s.pub.DryRun = true
		keep := "keep-" + img.Desc.Digest.Encoded()
		plans := func(template, want string) {
			t.Helper()
			s.opt.Guard.Template = template
			s.to.on(nil)
			got := guards(s.mustPush("src/a:1 > a:same,old"))
			if len(got) != 1 || got[0].Reference+" "+string(got[0].Status) != s.to.host+"/org/a:"+want || got[0].New != img.Desc.Digest {
				t.Errorf("%s gave %+v, want %s", template, got, want)
			}
			if wrote := s.to.puts(); len(wrote) > 0 {
				t.Errorf("wrote %q", wrote)
			}
		}
		plans("{tag}-{timestamp}", "old-{timestamp} planned")
		plans("keep-{digest}", keep+" planned")
		s.to.push("org/a:"+keep, img)
		plans("keep-{digest}", keep+" unchanged")
	})
}

// That a guard tag would be too long for a digest is found out before it is copied.
func TestGuardOfLongDigests(t *testing.T) {
	guard := publish.Guard{Template: "keep-{digest}"}
	for name, do := range map[string]func(s *stage, source string) error{
		"push": func(s *stage, source string) error {
			s.opt.Guard = guard
			_, err := s.push(source + " > a:1")
			return err
		},
		"tag": func(s *stage, source string) error {
			_, err := s.pub.Tag(t.Context(), s.from.ref(source), s.to.refs("org/a:1"), publish.TagOptions{Guard: guard})
			return err
		},
		"merge": func(s *stage, source string) error {
			_, err := s.pub.Merge(t.Context(), s.from.ref(source), s.to.ref("org/a:1"), publish.MergeOptions{Guard: guard})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, plainArena)
			img := s.cast.image("amd64=1")
			s.from.push("src/a:1", img)
			long := digest.SHA512.FromBytes(img.Raw).String()
			s.from.on(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, long) {
					return false
				}
				w.Header().Set("Content-Type", img.Desc.MediaType)
				w.Header().Set("Docker-Content-Digest", long)
				_, _ = w.Write(img.Raw)
				return true
			})
			s.to.on(nil)
			if err := do(s, "src/a@"+long); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "128 characters") {
				t.Errorf("got %v, want a usage error", err)
			}
			for _, asked := range s.to.requests() {
				if !strings.HasPrefix(asked, "GET ") && !strings.HasPrefix(asked, "HEAD ") {
					t.Errorf("it asked %s", asked)
				}
			}
		})
	}
}
