package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// five gives the list of the acceptance statements of tag add and remove.
func (c *cast) five() imagetest.Image {
	return c.list("amd64=1", "arm64=2", "arm=3", "ppc64le=4", "s390x=5")
}

func archs(names ...string) publish.ArchOptions { return publish.ArchOptions{Archs: names} }

func except(o publish.ArchOptions) publish.ArchOptions {
	o.Except = true
	return o
}

func TestAddPlatforms(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		tests := []struct {
			name   string
			source []string
			dest   []string // nil: there is none
			opt    publish.ArchOptions
			want   string // "source" is its bytes, "as it is" the destination's
		}{
			{"A7 two of three", []string{"arm64=6666", "ppc64le=7777", "s390x=8888"}, []string{"arm64=1111", "armhfp=2222", "ppc64le=3333", "amd64=5555"}, archs("arm64", "s390x"), "6666 8888 2222 3333 5555"},
			{"A8 no destination", []string{"arm64=6666", "ppc64le=7777", "s390x=8888"}, nil, archs("arm64", "s390x"), "6666 8888"},
			{"A10 the source lacks it", []string{"arm64=6666", "ppc64le=7777", "s390x=8888"}, []string{"arm64=1111", "amd64=5555"}, archs("amd64"), "as it is"},
			{"A81 two", []string{"amd64=1", "arm64=2", "arm=3", "ppc64le=4", "s390x=5"}, nil, archs("arm", "ppc64le"), "3 4"},
			{"A81 all but none", []string{"amd64=1", "arm64=2", "arm=3", "ppc64le=4", "s390x=5"}, nil, except(archs()), "source"},
			{"A81 none", []string{"amd64=1", "arm64=2"}, []string{"amd64=8", "s390x=9"}, archs("mips"), "as it is"},
			{"A81 none, and no destination", []string{"amd64=1", "arm64=2"}, nil, archs(), "nothing"},
			{"A83 the source's in another order", []string{"amd64=1", "arm64=2", "arm=3"}, []string{"arm=3", "amd64=1", "arm64=9"}, archs("arm64"), "source"},
			{"the same already", []string{"amd64=1", "arm64=2"}, []string{"arm64=2", "amd64=1"}, archs("arm64"), "as it is"},
			{"a variant", []string{"arm/v6=1", "arm/v7=2"}, []string{"amd64=3"}, publish.ArchOptions{Platforms: []oci.Platform{{OS: "linux", Architecture: "arm", Variant: "v6"}}}, "1 3"},
			{"all but a platform", []string{"arm/v6=1", "arm/v7=2", "windows/arm=4"}, []string{"amd64=3"}, except(publish.ArchOptions{Platforms: []oci.Platform{{OS: "linux", Architecture: "arm", Variant: "v6"}}}), "2 4 3"},
			{"by another name", []string{"amd64=1", "arm64=2"}, []string{"arm64=3"}, archs("aarch64"), "2"},
		}
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				c := newCast()
				c.docker = i%2 == 0
				src, dest := fmt.Sprintf("org/add%d:new", i), fmt.Sprintf("org/add%d:1", i)
				a.push(src, c.list(tt.source...))
				if tt.dest != nil {
					a.push(dest, c.list(tt.dest...))
				}
				a.on(nil)
				report, err := a.publisher().AddPlatforms(t.Context(), a.ref(src), a.refs(dest), tt.opt)
				if err != nil {
					t.Fatal(err)
				}
				puts, change := len(a.puts()), only(t, report)
				switch tt.want {
				case "source":
					a.means(dest, c.list(tt.source...))
				case "as it is":
					a.means(dest, c.list(tt.dest...))
					if puts > 0 || change.Status != publish.Unchanged {
						t.Errorf("%s after %d writes", change.Status, puts)
					}
				case "nothing":
					if puts > 0 || change.Status != publish.Absent || len(change.Warnings) != 1 {
						t.Errorf("%s after %d writes, with the warnings %q", change.Status, puts, change.Warnings)
					}
				default:
					if got := a.entries(dest, c.names); got != tt.want {
						t.Errorf("the list has %s, want %s", got, tt.want)
					}
				}
			})
		}
	})
}

func TestRemovePlatforms(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		tests := []struct {
			name   string
			source []string // nil: none is given
			opt    publish.ArchOptions
			want   string // "as it is", or "nothing": the tag is gone
		}{
			{"A80 two", nil, archs("amd64", "s390x"), "2 3 4"},
			{"A80 all but two", nil, except(archs("amd64", "s390x")), "1 5"},
			{"A80 what the source has too", []string{"amd64=1", "arm64=12", "arm=3", "ppc64le=14", "s390x=5"}, except(archs()), "2 4"},
			{"A82 three", nil, archs("amd64", "arm64", "arm"), "4 5"},
			{"A82 all", nil, archs("amd64", "arm64", "arm", "ppc64le", "s390x"), "nothing"},
			{"none of its own", nil, archs("mips"), "as it is"},
			{"none that the source has", []string{"amd64=8", "arm64=9"}, archs("amd64"), "as it is"},
			{"a platform", nil, publish.ArchOptions{Platforms: []oci.Platform{{OS: "linux", Architecture: "arm"}}}, "1 2 4 5"},
		}
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				c := newCast()
				c.docker = i%2 == 0
				dest := fmt.Sprintf("org/rm%d:1", i)
				a.push(dest, c.five())
				a.push(strings.TrimSuffix(dest, "1")+"other", c.five())
				if tt.source != nil {
					src := fmt.Sprintf("org/rm%d:old", i)
					a.push(src, c.list(tt.source...))
					tt.opt.Source = a.ref(src)
				}
				a.on(nil)
				report, err := a.publisher().RemovePlatforms(t.Context(), a.refs(dest), tt.opt)
				if err != nil {
					t.Fatal(err)
				}
				change := only(t, report)
				switch tt.want {
				case "as it is":
					a.means(dest, c.five())
					if change.Status != publish.Unchanged || len(change.Warnings) != 1 {
						t.Errorf("reported as %+v", change)
					}
				case "nothing":
					if _, raw := a.get(dest); raw != nil || change.Status != publish.Deleted || len(change.Platforms) != 5 {
						t.Errorf("reported as %+v, and it means %s", change, raw)
					}
				default:
					if got := a.entries(dest, c.names); got != tt.want {
						t.Errorf("the list has %s, want %s", got, tt.want)
					}
				}
				a.means(strings.TrimSuffix(dest, "1")+"other", c.five())
			})
		}
	})
}

// A single image is a list of its own platform. (Upstream takes every one for an
// amd64 image; here its config counts.)
func TestPlatformsOfSingleImages(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		tests := []struct {
			name         string
			add          bool
			source, dest string // "" is none
			arch         string
			want         string
		}{
			{"A82 removed, same digest", false, "arm64=1", "arm64=1", "arm64", ""},
			{"A82 another digest is kept", false, "arm64=2", "arm64=1", "arm64", "arm64=1"},
			{"A82 another architecture is kept", false, "arm64=1", "arm64=1", "amd64", "arm64=1"},
			{"removed, without a source", false, "", "arm64=1", "arm64", ""},
			{"added", true, "arm64=1", "", "arm64", "arm64=1"},
			{"added in the place of another", true, "arm64=1", "arm64=2", "arm64", "arm64=1"},
			{"not added", true, "arm64=1", "arm64=2", "amd64", "arm64=2"},
		}
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				c := newCast()
				src, dest := fmt.Sprintf("org/single%d:src", i), fmt.Sprintf("org/single%d:1", i)
				opt := archs(tt.arch)
				if tt.source != "" {
					a.push(src, c.image(tt.source))
					opt.Source = a.ref(src)
				}
				if tt.dest != "" {
					a.push(dest, c.image(tt.dest))
				}
				var err error
				if tt.add {
					_, err = a.publisher().AddPlatforms(t.Context(), a.ref(src), a.refs(dest), opt)
				} else {
					_, err = a.publisher().RemovePlatforms(t.Context(), a.refs(dest), opt)
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, raw := a.get(dest); tt.want == "" && raw != nil {
					t.Errorf("it means %s", raw)
				} else if tt.want != "" {
					a.means(dest, c.image(tt.want))
				}
			})
		}
	})
}

func TestPlatformsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/app:list", c.five())
		a.push("org/app:list2", c.fresh())
		a.push("org/app:single", c.image("amd64=1"))
		add := func(source string, tags ...string) func() error {
			return func() error {
				var from oci.Ref
				if source != "" {
					from = a.ref(source)
				}
				_, err := a.publisher().AddPlatforms(t.Context(), from, a.refs(tags...), archs("amd64", "arm64"))
				return err
			}
		}
		remove := func(source string, tags ...string) func() error {
			return func() error {
				opt := archs("amd64")
				if source != "" {
					opt.Source = a.ref(source)
				}
				_, err := a.publisher().RemovePlatforms(t.Context(), a.refs(tags...), opt)
				return err
			}
		}
		digest := "org/app@" + string(c.five().Desc.Digest)
		tests := []struct {
			name string
			do   func() error
			kind error
			says string
		}{
			{"A84 nothing to add from", add("", "org/app:list"), oci.ErrUsage, "a source must be given"},
			{"A84 a source by its digest", add(digest, "org/app:list"), oci.ErrUsage, "the source must be a tag, not a digest"},
			{"A84 a source by its digest, to remove", remove(digest, "org/app:list"), oci.ErrUsage, "the source must be a tag, not a digest"},
			{"A84 several repositories", add("org/app:list", "org/app:list2", "org/other:1"), oci.ErrUsage, "within one repository"},
			{"A84 several repositories, to remove", remove("", "org/app:list", "org/other:1"), oci.ErrUsage, "within one repository"},
			{"A84 a source elsewhere", remove("org/other:1", "org/app:list"), oci.ErrUsage, "within one repository"},
			{"A84 a tag by its digest", remove("", digest), oci.ErrUsage, "it must be a tag, not a digest"},
			{"A84 no tags", remove(""), oci.ErrUsage, "no tag is given"},
			{"A84 the source isn't there", add("org/app:none", "org/app:list"), oci.ErrNotFound, "app:none"},
			{"A84 the source isn't there, to remove", remove("org/app:none", "org/app:list"), oci.ErrNotFound, "app:none"},
			{"A84 types differ", add("org/app:single", "org/app:new", "org/app:list"), oci.ErrRefused, "single is a single image and"},
			{"A84 types differ the other way", add("org/app:list", "org/app:single"), oci.ErrRefused, "list is a list of platforms and"},
			{"A84 types differ, to remove", remove("org/app:single", "org/app:list"), oci.ErrRefused, "--promote-single"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				a.on(nil)
				err := tt.do()
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want an error matching %v that says %q", err, tt.kind, tt.says)
				}
				if got := a.requests("GET", "HEAD"); len(got) > 0 {
					t.Errorf("written: %q", got)
				}
			})
		}
		t.Run("A82 a tag that isn't there", func(t *testing.T) {
			report, err := a.publisher().RemovePlatforms(t.Context(), a.refs("org/app:none"), archs("amd64"))
			if err != nil {
				t.Fatal(err)
			}
			if got := only(t, report); got.Status != publish.Absent || len(got.Warnings) != 1 {
				t.Errorf("reported as %+v", got)
			}
		})
	})
}

// All tags are one run: if one can't be written, all are as before. Nobody's change
// that came meanwhile is lost.
func TestPlatformsOfSeveralTags(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		push := func() {
			a.push("org/app:new", c.fresh())
			a.push("org/app:1", c.five())
			a.push("org/app:2", c.old())
			a.on(nil)
		}
		t.Run("a failure takes all back", func(t *testing.T) {
			push()
			a.on(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/2") && answer(w, http.StatusForbidden, "DENIED")
			})
			_, err := a.publisher().AddPlatforms(t.Context(), a.ref("org/app:new"), a.refs("org/app:1", "org/app:2"), archs("s390x"))
			if !errors.Is(err, oci.ErrDenied) {
				t.Errorf("%v, want an error matching %v", err, oci.ErrDenied)
			}
			a.on(nil)
			a.means("org/app:1", c.five())
			a.means("org/app:2", c.old())
		})
		t.Run("A8 a destination that is hidden", func(t *testing.T) {
			// Upstream takes 401 for absent. Here that needs proof, and who may push to
			// the repository and is told 401 has none.
			push()
			a.on(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/manifests/1") && answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
			})
			_, err := a.publisher().AddPlatforms(t.Context(), a.ref("org/app:new"), a.refs("org/app:1"), archs("s390x"))
			if err == nil || len(a.puts()) > 0 {
				t.Errorf("%v with the writes %q, want an error and none", err, a.puts())
			}
		})
		t.Run("A18 somebody moves a tag meanwhile", func(t *testing.T) {
			push()
			var once sync.Once
			a.on(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/1") {
					once.Do(func() { a.push("org/app:1", c.list("amd64=1", "s390x=5", "riscv64=9")) })
				}
				return false
			})
			if _, err := a.publisher().RemovePlatforms(t.Context(), a.refs("org/app:1"), archs("s390x")); err != nil {
				t.Fatal(err)
			}
			if got, want := a.entries("org/app:1", c.names), "1 9"; got != want {
				t.Errorf("the list has %s, want %s", got, want)
			}
		})
	})
}

// A 404 that is no registry's, to the look before a delete, doesn't make a tag gone.
func TestRemoveIsNotTalkedOutOf(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/a:1", c.list("amd64=1"))
		a.push("org/a:2", c.list("arm64=2"))
		first := true
		a.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !first || r.Method != http.MethodHead || r.URL.Path != "/v2/org/a/manifests/1" {
				return false
			}
			first = false
			w.WriteHeader(http.StatusNotFound)
			return true
		})
		_, err := a.publisher().RemovePlatforms(t.Context(), a.refs("org/a:1"), publish.ArchOptions{Archs: []string{"amd64"}})
		a.on(nil)
		if _, raw := a.get("org/a:1"); err != nil || raw != nil || first {
			t.Errorf("%v; the tag means %s", err, raw)
		}
	})
}

// The configs of the source's entries that don't say their platform are read once for
// all tags.
func TestPlatformsAreReadOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		bare := func(_ int, entry map[string]any) { delete(entry, "platform") }
		a.push("org/app:new", c.listOf(bare, c.image("arm64=1"), c.image("s390x=2")))
		for _, tag := range []string{"1", "2", "3"} {
			a.push("org/app:"+tag, c.list("amd64=5"))
		}
		a.on(nil)
		if _, err := a.publisher().AddPlatforms(t.Context(), a.ref("org/app:new"), a.refs("org/app:1", "org/app:2", "org/app:3"), archs("s390x")); err != nil {
			t.Fatal(err)
		}
		reads := map[string]int{}
		for _, asked := range a.requests() {
			if reads[asked]++; reads[asked] > 1 && strings.HasPrefix(asked, "GET ") {
				t.Errorf("asked twice: %s", asked)
			}
		}
		if got, want := a.entries("org/app:3", c.names), "2 5"; got != want {
			t.Errorf("the list has %s, want %s", got, want)
		}
		opt := archs("s390x")
		opt.Source = a.ref("org/app:new")
		a.on(nil)
		if _, err := a.publisher().RemovePlatforms(t.Context(), a.refs("org/app:1", "org/app:2"), opt); err != nil {
			t.Fatal(err)
		}
		for _, asked := range a.requests("HEAD") {
			if strings.Contains(asked, string(c.image("arm64=1").Desc.Digest)) {
				t.Errorf("of a source whose digests alone count was asked: %s", asked)
			}
		}
	})
}
