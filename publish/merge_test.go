package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestMerge(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		for _, docker := range []bool{false, true} {
			t.Run(fmt.Sprintf("A1 A3 A4 A5 docker=%t", docker), func(t *testing.T) {
				c := newCast()
				c.docker = docker
				repo := fmt.Sprintf("org/a5-%t", docker)
				a.push("org/src:1", c.fresh())
				a.push(repo+":1", c.old())
				a.on(nil)
				report, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref(repo+":1"), publish.MergeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := a.entries(repo+":1", c.names), "6666 7777 8888 2222 5555"; got != want {
					t.Errorf("the list has %s, want %s", got, want)
				}
				a.means("org/src:1", c.fresh())
				if got, want := a.puts(), []string{repo + ":1"}; !slices.Equal(got, want) {
					t.Errorf("written: %q, want %q", got, want)
				}
				change := only(t, report)
				if want := "replaced arm64, replaced ppc64le, added s390x, kept armhfp, kept amd64"; actions(change) != want {
					t.Errorf("platforms: %s, want %s", actions(change), want)
				}
				if report.Items[0].Source != a.host+"/org/src:1" || change.Reference != a.host+"/"+repo+":1" || change.Status != publish.Merged {
					t.Errorf("the report names %q, %q, %s", report.Items[0].Source, change.Reference, change.Status)
				}
				if change.Old != c.old().Desc.Digest || report.Items[0].Digest != c.fresh().Desc.Digest {
					t.Errorf("old digest %s, source %s", change.Old, report.Items[0].Digest)
				}
			})
		}
	})
}

// Two lists of six platforms whose images are all there: a GET of each side, a HEAD
// of the destination just before the PUT, a HEAD after it, besides the images' HEADs.
// The statement (A5) counts three, without looking again.
func TestMergeRequests(t *testing.T) {
	source := []string{"amd64=a1", "arm64=a2", "arm/v7=a3", "ppc64le=a4", "s390x=a5", "riscv64=a6"}
	tests := []struct {
		name string
		dest []string
		want string
	}{
		{"A5 two platforms in common", []string{"amd64=b1", "arm64=b2", "arm/v6=b3", "386=b4", "mips64le=b5", "loong64=b6"}, "a1 a2 a3 a4 a5 a6 b3 b4 b5 b6"},
		{"A5 all in common", []string{"s390x=c1", "riscv64=c2", "ppc64le=c3", "arm/v7=c4", "amd64=c5", "arm64=c6"}, "a1 a2 a3 a4 a5 a6"},
	}
	everywhere(t, func(t *testing.T, a *arena) {
		for i, tt := range tests {
			for _, to := range []string{"org/src", "org/dst"} {
				t.Run(tt.name+" "+to, func(t *testing.T) {
					c := newCast()
					tag := fmt.Sprint(i)
					a.push("org/src:new", c.list(source...))
					a.push(to+":"+tag, c.list(tt.dest...))
					for _, name := range source {
						a.push(to+":has-"+c.image(name).Desc.Digest.Encoded(), c.image(name))
					}
					a.on(nil)
					_, err := a.publisher().Merge(t.Context(), a.ref("org/src:new"), a.ref(to+":"+tag), publish.MergeOptions{})
					if err != nil {
						t.Fatal(err)
					}
					path := "/v2/" + to + "/manifests/" + tag
					want := []string{"GET /v2/org/src/manifests/new", "GET " + path, "HEAD " + path, "PUT " + path, "HEAD " + path}
					if got := a.requests("HEAD /v2/" + to + "/manifests/sha256:"); !slices.Equal(got, want) {
						t.Errorf("requests:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
					if got := len(a.requests()) - len(want); got > 12 {
						t.Errorf("%d HEADs of 12 images", got)
					}
					if got := a.entries(to+":"+tag, c.names); got != tt.want {
						t.Errorf("the list has %s, want %s", got, tt.want)
					}
				})
			}
		}
	})
}

func TestMergeBytes(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/src:1", c.fresh())
		tests := []struct {
			name   string
			dest   *imagetest.Image
			status publish.Status
			puts   int
		}{
			{"A16 nothing extra at the destination", new(c.list("arm64=1111", "s390x=1112")), publish.Pushed, 1},
			{"A16 equal already", new(c.fresh()), publish.Unchanged, 0},
			{"A8 no destination, the repository is there", nil, publish.Pushed, 1},
		}
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				dest := fmt.Sprintf("org/bytes:%d", i)
				if tt.dest != nil {
					a.push(dest, *tt.dest)
				}
				a.on(nil)
				report, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref(dest), publish.MergeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				a.means(dest, c.fresh())
				if got := only(t, report).Status; got != tt.status || len(a.puts()) != tt.puts {
					t.Errorf("%s with %d writes, want %s with %d", got, len(a.puts()), tt.status, tt.puts)
				}
			})
		}
		// Quay answers 401 for it to who may not push there, and 404 only to who asks
		// for that: the proof.
		t.Run("A8 no repository", func(t *testing.T) {
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref("org/none:1"), publish.MergeOptions{}); err != nil {
				t.Fatal(err)
			}
			a.means("org/none:1", c.fresh())
		})
		t.Run("a second merge of the same changes nothing", func(t *testing.T) {
			a.push("org/twice:1", c.old())
			for _, want := range []publish.Status{publish.Merged, publish.Unchanged} {
				report, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref("org/twice:1"), publish.MergeOptions{})
				if err != nil || only(t, report).Status != want {
					t.Errorf("%s, %v, want %s", only(t, report).Status, err, want)
				}
			}
		})
	})
}

func TestMergeTypes(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		t.Run("A13 an index that doesn't say its type", func(t *testing.T) {
			c := newCast()
			src := c.fresh()
			untyped := strings.Replace(string(src.Raw), fmt.Sprintf(`"mediaType":%q,"schema`, oci.MediaTypeIndex), `"schema`, 1)
			if untyped == string(src.Raw) {
				t.Fatalf("no media type in %s", src.Raw)
			}
			a.push("org/a13:new", withBytes(src, untyped))
			a.push("org/a13:1", c.old())
			sent := ""
			a.on(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1") {
					sent = r.Header.Get("Content-Type")
				}
				return false
			})
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/a13:new"), a.ref("org/a13:1"), publish.MergeOptions{}); err != nil {
				t.Fatal(err)
			}
			mt, raw := a.get("org/a13:1")
			if sent != oci.MediaTypeIndex || mt != oci.MediaTypeIndex || strings.HasPrefix(string(raw), `{"mediaType"`) {
				t.Errorf("sent as %s, it is %s: %s", sent, mt, raw)
			}
			if got, want := a.entries("org/a13:1", c.names), "6666 7777 8888 2222 5555"; got != want {
				t.Errorf("the list has %s, want %s", got, want)
			}
		})
		t.Run("A14 docker's list and an entry of OCI's", func(t *testing.T) {
			c := newCast()
			old := c.list("amd64=5555", "arm64=1111")
			c.docker = true
			a.push("org/a14:new", c.fresh())
			a.push("org/a14:1", old)
			_, err := a.publisher().Merge(t.Context(), a.ref("org/a14:new"), a.ref("org/a14:1"), publish.MergeOptions{Type: "docker"})
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("as a docker list: %v, want an error matching %v", err, oci.ErrInvalid)
			}
			a.means("org/a14:1", old)
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/a14:new"), a.ref("org/a14:1"), publish.MergeOptions{}); err != nil {
				t.Fatal(err)
			}
			if mt, _ := a.get("org/a14:1"); mt != oci.MediaTypeIndex {
				t.Errorf("it is %s", mt)
			}
		})
		t.Run("A19 pubtools style", func(t *testing.T) {
			c := newCast()
			c.docker = true
			a.push("org/a19:new", c.fresh())
			a.push("org/a19:1", c.old())
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/a19:new"), a.ref("org/a19:1"), publish.MergeOptions{Style: index.Pubtools}); err != nil {
				t.Fatal(err)
			}
			if _, raw := a.get("org/a19:1"); !strings.HasPrefix(string(raw), "{\n    \"manifests\": [\n        {\n            \"digest\"") {
				t.Errorf("written as %s", raw)
			}
		})
	})
}

func TestMergeChildren(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		t.Run("A17 a kept image that is missing", func(t *testing.T) {
			c := newCast()
			a.push("org/a17src:1", c.fresh())
			broken := c.old()
			gone := broken.Children[3]
			broken.Children = broken.Children[:3]
			a.push("org/a17:1", broken)
			a.on(nil)
			report, err := a.publisher().Merge(t.Context(), a.ref("org/a17src:1"), a.ref("org/a17:1"), publish.MergeOptions{})
			if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), string(gone.Desc.Digest)) {
				t.Errorf("%v, want an error that names %s", err, gone.Desc.Digest)
			}
			if puts := a.requests("GET", "HEAD"); len(puts) > 0 {
				t.Errorf("something was written: %q", puts)
			}
			if got := only(t, report); got.Status != publish.Failed || report.Items[0].Error == "" {
				t.Errorf("reported as %+v", got)
			}
		})
		t.Run("what the destination lacks is copied, and nothing else", func(t *testing.T) {
			c := newCast()
			a.push("org/lack-src:1", c.fresh())
			a.push("org/lack:1", c.old())
			a.push("org/lack:has", c.image("s390x=8888"))
			a.on(nil)
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/lack-src:1"), a.ref("org/lack:1"), publish.MergeOptions{}); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]bool{"arm64=6666": true, "ppc64le=7777": true, "s390x=8888": false} {
				written := slices.Contains(a.requests(), "PUT /v2/org/lack/manifests/"+string(c.image(name).Desc.Digest))
				if written != want {
					t.Errorf("%s was written: %t", name, written)
				}
			}
			if _, err := a.publisher().Tag(t.Context(), a.ref("org/lack:1"), a.refs("org/other:1"), publish.TagOptions{}); err != nil {
				t.Errorf("the list can't be read whole: %v", err)
			}
		})
		t.Run("the config says the platform that an entry doesn't", func(t *testing.T) {
			c := newCast()
			bare := func(_ int, entry map[string]any) { delete(entry, "platform") }
			a.push("org/bare:new", c.listOf(bare, c.image("arm64=6666"), c.image("amd64=7777")))
			a.push("org/bare:1", c.listOf(bare, c.image("arm64=1111"), c.image("s390x=2222")))
			if _, err := a.publisher().Merge(t.Context(), a.ref("org/bare:new"), a.ref("org/bare:1"), publish.MergeOptions{}); err != nil {
				t.Fatal(err)
			}
			if got, want := a.entries("org/bare:1", c.names), "6666 7777 2222"; got != want {
				t.Errorf("the list has %s, want %s", got, want)
			}
		})
	})
}

func TestMergeRace(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		t.Run("A18 somebody adds a platform meanwhile", func(t *testing.T) {
			c := newCast()
			a.push("org/race:new", c.fresh())
			a.push("org/race:1", c.old())
			var once sync.Once
			a.on(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/1") {
					once.Do(func() { a.push("org/race:1", c.list("arm64=1111", "riscv64=9999")) })
				}
				return false
			})
			report, err := a.publisher().Merge(t.Context(), a.ref("org/race:new"), a.ref("org/race:1"), publish.MergeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := a.entries("org/race:1", c.names), "6666 7777 8888 9999"; got != want {
				t.Errorf("the list has %s, want %s", got, want)
			}
			if got := only(t, report); got.Attempts != 2 || len(a.puts()) != 1 {
				t.Errorf("%d attempts, %d writes", got.Attempts, len(a.puts()))
			}
		})
		t.Run("A18 somebody moves it again and again", func(t *testing.T) {
			c := newCast()
			a.push("org/restless:new", c.fresh())
			a.push("org/restless:1", c.old())
			n := 0
			var last imagetest.Image
			a.on(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/1") {
					n++
					last = c.list("arm64=1111", fmt.Sprintf("riscv64=900%d", n))
					a.push("org/restless:1", last)
				}
				return false
			})
			_, err := a.publisher().Merge(t.Context(), a.ref("org/restless:new"), a.ref("org/restless:1"), publish.MergeOptions{})
			if !errors.Is(err, oci.ErrMoved) || n != 4 || len(a.puts()) > 0 {
				t.Errorf("%v after %d looks and %d writes, want an error matching %v after 4 and none", err, n, len(a.puts()), oci.ErrMoved)
			}
			a.on(nil)
			a.means("org/restless:1", last)
		})
	})
}

// withBytes gives img other bytes.
func withBytes(img imagetest.Image, raw string) imagetest.Image {
	img.Raw = []byte(raw)
	img.Desc = imagetest.Blob(img.Desc.MediaType, img.Raw).Desc
	return img
}
