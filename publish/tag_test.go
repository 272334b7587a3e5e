package publish_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// linuxARM64 is a platform of the lists below.
var linuxARM64 = oci.Platform{OS: "linux", Architecture: "arm64"}

func TestTagWithinARepository(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		c.docker = true
		a.push("org/app:1", c.old())
		a.push("org/app:stable", c.fresh())
		a.on(nil)
		report, err := a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:stable", "org/app:new", "org/app:stable"), publish.TagOptions{})
		if err != nil {
			t.Fatal(err)
		}
		asked := a.requests("HEAD /v2/org/app/manifests/sha256:")
		slices.Sort(asked)
		path := "/v2/org/app/manifests/"
		want := []string{
			"GET " + path + "1", "GET " + path + "new", "GET " + path + "stable",
			"HEAD " + path + "new", "HEAD " + path + "new", "HEAD " + path + "stable", "HEAD " + path + "stable",
			"PUT " + path + "new", "PUT " + path + "stable",
		}
		if !slices.Equal(asked, want) {
			t.Errorf("requests:\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
		}
		a.means("org/app:stable", c.old())
		a.means("org/app:new", c.old())
		changes := report.Items[0].Changes
		if len(changes) != 2 || changes[0].Reference != a.host+"/org/app:stable" || changes[0].Old != c.fresh().Desc.Digest || changes[1].Old != "" {
			t.Errorf("reported as %+v", changes)
		}
		if report.Totals[publish.Pushed] != 2 || report.Items[0].Kind != publish.Multiarch {
			t.Errorf("totals %v, kind %s", report.Totals, report.Items[0].Kind)
		}

		a.on(nil)
		if report, err = a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:stable"), publish.TagOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := only(t, report); got.Status != publish.Unchanged || len(a.puts()) > 0 {
			t.Errorf("a second time it is %s, with the writes %q", got.Status, a.puts())
		}
	})
}

func TestTagOnePlatform(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		arms := c.list("arm64=1", "arm/v6=2", "arm/v7=3", "arm/v5=4")
		a.push("org/app:1", arms)
		a.push("org/app:twice", c.list("arm64=1", "arm64=1"))
		tests := []struct {
			name, source string
			platform     oci.Platform
			want         string // the image; "" is a refusal
		}{
			{"by its platform", "org/app:1", linuxARM64, "arm64=1"},
			{"by its architecture", "org/app:1", oci.Platform{Architecture: "aarch64"}, "arm64=1"},
			{"arm is arm/v7 where there are others", "org/app:1", oci.Platform{OS: "linux", Architecture: "arm"}, "arm/v7=3"},
			{"of a digest", "org/app@" + string(arms.Desc.Digest), oci.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, "arm/v6=2"},
			{"of a list that has it twice", "org/app:twice", linuxARM64, "arm64=1"},
			{"none", "org/app:1", oci.Platform{OS: "linux", Architecture: "s390x"}, ""},
			{"several", "org/app:1", oci.Platform{Architecture: "arm"}, ""},
			{"of a single image that is it", "org/app@" + string(c.image("arm64=1").Desc.Digest), linuxARM64, "arm64=1"},
			{"of a single image that isn't", "org/app@" + string(c.image("arm/v6=2").Desc.Digest), linuxARM64, ""},
		}
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				dest := "org/app:one" + string(rune('a'+i))
				a.on(nil)
				_, err := a.publisher().Tag(t.Context(), a.ref(tt.source), a.refs(dest), publish.TagOptions{Platform: &tt.platform})
				if tt.want == "" {
					if !errors.Is(err, oci.ErrUsage) || len(a.puts()) > 0 {
						t.Errorf("%v with the writes %q, want an error matching %v and none", err, a.puts(), oci.ErrUsage)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				a.means(dest, c.image(tt.want))
			})
		}
	})
}

// An entry's word counts, however little it says, where its config says otherwise. (Quay
// keeps no such entries.)
func TestTagAsTheEntrySays(t *testing.T) {
	a, c := plainArena(t), newCast()
	a.push("org/app:1", c.listOf(func(i int, entry map[string]any) {
		entry["platform"] = []oci.Platform{{Architecture: "arm64"}, {OS: "linux", Architecture: "unknown"}}[i]
	}, c.image("amd64=8"), c.image("amd64=9")))
	for arch, want := range map[string]string{"arm64": "amd64=8", "unknown": "amd64=9"} {
		platform := oci.Platform{OS: "linux", Architecture: arch}
		if _, err := a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:"+arch), publish.TagOptions{Platform: &platform}); err != nil {
			t.Error(err)
		}
		a.means("org/app:"+arch, c.image(want))
	}
}

func TestTagAcrossRepositories(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		b := plainArena(t)
		c := newCast()
		a.push("org/src:1", c.old())
		a.push("org/has:old", c.old())
		a.push("org/has:1", c.fresh())
		dests := append(a.refs("org/new:1", "org/has:1", "org/new:2"), b.ref("other/new:1"))
		a.on(nil)
		report, err := a.publisher().Tag(t.Context(), a.ref("org/src:1"), dests, publish.TagOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"org/new:1", "org/has:1", "org/new:2"} {
			a.means(name, c.old())
		}
		b.means("other/new:1", c.old())
		for i, change := range report.Items[0].Changes {
			if change.Reference != dests[i].String() || change.Status != publish.Pushed {
				t.Errorf("change %d is %+v", i, change)
			}
		}
		for _, image := range c.old().Children {
			path := "/v2/org/has/manifests/" + string(image.Desc.Digest)
			if slices.Contains(a.requests(), "PUT "+path) {
				t.Errorf("%s was there and was written again", path)
			}
		}
		if _, err := b.publisher().Tag(t.Context(), b.ref("other/new:1"), b.refs("other/again:1"), publish.TagOptions{}); err != nil {
			t.Errorf("the copy can't be read whole: %v", err)
		}
	})
}

// Signatures, and what is about them, go where the image goes, if it wasn't there.
func TestTagTakesCompanionsAlong(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/src:1", c.old())
		of := func(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }
		root, child := of(c.old().Desc.Digest), of(c.image("amd64=5555").Desc.Digest)
		for _, tag := range []string{root, child} {
			a.push("org/src:"+tag, c.image("amd64="+tag))
		}
		report, err := a.publisher().Tag(t.Context(), a.ref("org/src:1"), a.refs("org/signed:1"), publish.TagOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{root, child} {
			a.means("org/signed:"+tag, c.image("amd64="+tag))
		}
		changes := report.Items[0].Changes
		if len(changes) != 3 || changes[2].Reference != a.host+"/org/signed:1" || changes[0].Companion != "signature" {
			t.Errorf("reported as %+v", changes)
		}
		a.push("org/merged:1", c.list("amd64=9999", "riscv64=9998"))
		if _, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref("org/merged:1"), publish.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
		a.means("org/merged:"+child, c.image("amd64="+child))
		if _, raw := a.get("org/merged:" + root); raw != nil {
			t.Error("the signature of a list that isn't there came along")
		}
	})
}

func TestTagRefuses(t *testing.T) {
	a := plainArena(t)
	c := newCast()
	a.push("org/app:1", c.old())
	digest := "org/app@" + string(c.old().Desc.Digest)
	a.on(nil)
	tests := []struct {
		name, source string
		dests        []string
	}{
		{"A65 a digest as the destination", "org/app:1", []string{"org/app:2", digest}},
		{"a tag with a digest as the destination", "org/app:1", []string{"org/app:2@" + string(c.old().Desc.Digest)}},
		{"no tag as the destination", "org/app:1", []string{"org/app"}},
		{"no tag as the source", "org/app", []string{"org/app:2"}},
		{"no destination", "org/app:1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := a.publisher().Tag(t.Context(), a.ref(tt.source), a.refs(tt.dests...), publish.TagOptions{}); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("tag: %v", err)
			}
			if len(tt.dests) == 0 {
				return
			}
			dest := a.ref(tt.dests[len(tt.dests)-1])
			if _, err := a.publisher().Merge(t.Context(), a.ref(tt.source), dest, publish.MergeOptions{}); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("merge: %v", err)
			}
		})
	}
	if got := a.requests(); len(got) > 0 {
		t.Errorf("asked: %q", got)
	}
}

func TestTagFailures(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/app:1", c.old())
		refuse := func(path string) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, path) && answer(w, http.StatusForbidden, "DENIED")
			}
		}
		t.Run("one tag that can't be written takes the others back", func(t *testing.T) {
			a.push("org/app:a", c.fresh())
			written, b := make(chan struct{}), refuse("/manifests/b")
			a.on(func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/a") && r.ContentLength == int64(len(c.old().Raw)):
					close(written)
				case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/b"):
					<-written
				}
				return b(w, r)
			})
			report, err := a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:a", "org/app:b"), publish.TagOptions{})
			if !errors.Is(err, oci.ErrDenied) || errors.Is(err, publish.ErrUndoIncomplete) {
				t.Errorf("%v, want an error matching %v alone", err, oci.ErrDenied)
			}
			a.on(nil)
			a.means("org/app:a", c.fresh())
			if got := report.Items[0].Changes; got[0].Status != publish.RolledBack || got[1].Status != publish.Failed {
				t.Errorf("reported as %+v", got)
			}
		})
		t.Run("without a rollback the others stay", func(t *testing.T) {
			p := a.publisher()
			p.Rollback = publish.Never
			a.on(refuse("/manifests/b"))
			if _, err := p.Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:b", "org/app:c"), publish.TagOptions{}); err == nil {
				t.Error("no error")
			}
			a.means("org/app:c", c.old())
		})
		t.Run("what is doomed isn't written", func(t *testing.T) {
			p := a.publisher()
			p.Blobs = 1
			a.on(refuse("/manifests/d"))
			report, err := p.Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:d", "org/app:e"), publish.TagOptions{})
			if err == nil {
				t.Error("no error")
			}
			if got := report.Items[0].Changes[1]; got.Status != publish.Skipped && got.Status != publish.RolledBack {
				t.Errorf("reported as %+v", got)
			}
			if _, raw := a.get("org/app:e"); raw != nil {
				t.Error("the other tag is there")
			}
		})
		t.Run("A9 a destination that can't be read", func(t *testing.T) {
			a.on(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/ill") && answer(w, http.StatusInternalServerError, "UNKNOWN")
			})
			_, err := a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:ill", "org/app:well"), publish.TagOptions{})
			if err == nil || len(a.puts()) > 0 {
				t.Errorf("%v with the writes %q, want an error and none", err, a.puts())
			}
			if _, err = a.publisher().Merge(t.Context(), a.ref("org/app:1"), a.ref("org/app:ill"), publish.MergeOptions{}); err == nil || len(a.puts()) > 0 {
				t.Errorf("merge: %v with the writes %q, want an error and none", err, a.puts())
			}
		})
		t.Run("A18 somebody moves the tag meanwhile", func(t *testing.T) {
			a.push("org/app:race", c.fresh())
			var once sync.Once
			a.on(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/race") {
					once.Do(func() { a.push("org/app:race", c.list("arm64=1111")) })
				}
				return false
			})
			report, err := a.publisher().Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:race"), publish.TagOptions{})
			if err != nil {
				t.Fatal(err)
			}
			a.means("org/app:race", c.old())
			if got := only(t, report); got.Attempts != 2 || got.Old != c.list("arm64=1111").Desc.Digest {
				t.Errorf("reported as %+v", got)
			}
		})
		t.Run("a source that isn't there makes no repository", func(t *testing.T) {
			a.on(nil)
			_, err := a.publisher().Tag(t.Context(), a.ref("org/app:gone"), a.refs("org/never:1"), publish.TagOptions{})
			if !errors.Is(err, oci.ErrNotFound) || slices.ContainsFunc(a.requests(), func(r string) bool { return strings.Contains(r, "never") }) {
				t.Errorf("%v after %q", err, a.requests())
			}
		})
	})
}

// A dry run writes nothing, and says what a run would do.
func TestTagDryRun(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/app:1", c.fresh())
		a.push("org/app:2", c.old())
		p := a.publisher()
		p.DryRun = true
		tests := map[string]func() (*publish.Report, error){
			"tag": func() (*publish.Report, error) {
				return p.Tag(t.Context(), a.ref("org/app:1"), a.refs("org/app:2", "org/elsewhere:1"), publish.TagOptions{})
			},
			"merge": func() (*publish.Report, error) {
				return p.Merge(t.Context(), a.ref("org/app:1"), a.ref("org/app:2"), publish.MergeOptions{})
			},
			"merge into nothing": func() (*publish.Report, error) {
				return p.Merge(t.Context(), a.ref("org/app:1"), a.ref("org/elsewhere:1"), publish.MergeOptions{})
			},
			"tag add": func() (*publish.Report, error) {
				return p.AddPlatforms(t.Context(), a.ref("org/app:1"), a.refs("org/app:2"), publish.ArchOptions{Archs: []string{"s390x"}})
			},
			"tag remove": func() (*publish.Report, error) {
				return p.RemovePlatforms(t.Context(), a.refs("org/app:2"), publish.ArchOptions{Archs: []string{"arm64"}})
			},
			"tag remove all": func() (*publish.Report, error) {
				return p.RemovePlatforms(t.Context(), a.refs("org/app:2"), publish.ArchOptions{Except: true})
			},
		}
		for name, do := range tests {
			t.Run(name, func(t *testing.T) {
				a.on(nil)
				report, err := do()
				if err != nil {
					t.Fatal(err)
				}
				for _, change := range report.Items[0].Changes {
					if change.Status != publish.Planned {
						t.Errorf("%+v", change)
					}
				}
				if !report.DryRun || len(a.requests("GET", "HEAD")) > 0 {
					t.Errorf("written: %q", a.requests("GET", "HEAD"))
				}
				if strings.HasPrefix(name, "merge") && len(report.Items[0].Changes[0].Platforms) == 0 {
					t.Error("nothing is said of platforms")
				}
			})
		}
		a.means("org/app:2", c.old())
	})
}

// What failed while it was copied is said once.
func TestCopyErrorSaysItOnce(t *testing.T) {
	a, c := quayArena(t), newCast()
	a.push("org/src:1", c.fresh())
	a.push("org/dst:1", c.old())
	a.on(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:") {
			return answer(w, http.StatusForbidden, "DENIED")
		}
		return false
	})
	_, err := a.publisher().Tag(t.Context(), a.ref("org/src:1"), a.refs("org/dst:1"), publish.TagOptions{})
	if err == nil || strings.Count(err.Error(), "put manifest") != 1 {
		t.Errorf("%v", err)
	}
}
