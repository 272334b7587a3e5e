package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestMergeSingleImages(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		tests := []struct {
			name         string
			source, dest string // a list of several, or a single image; "" is none
			promote      bool
			want         string
			warning      string
		}{
			{"A30 a list takes the place of an image", "arm64=1 amd64=2", "s390x=3", false, "arm64=1 amd64=2", "it is overwritten"},
			{"an image takes the place of a list", "s390x=3", "arm64=1 amd64=2", false, "s390x=3", "of linux/arm64, linux/amd64"},
			{"an image takes the place of an image", "s390x=3", "amd64=2", false, "s390x=3", "it is overwritten"},
			{"an image where there is none", "s390x=3", "", true, "s390x=3", ""},
			{"an image where it is already", "s390x=3", "s390x=3", true, "s390x=3", ""},
			{"a list and an image are joined", "arm64=1 amd64=2", "s390x=3", true, "arm64=1 amd64=2 s390x=3", ""},
			{"an image and a list are joined", "s390x=3", "arm64=1 amd64=2", true, "s390x=3 arm64=1 amd64=2", ""},
			{"two images are joined", "s390x=3", "amd64=2", true, "s390x=3 amd64=2", ""},
			{"an image of the same platform goes", "arm64=1 amd64=2", "amd64=3", true, "arm64=1 amd64=2", ""},
		}
		for i, tt := range tests {
			for _, docker := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s docker=%t", tt.name, docker), func(t *testing.T) {
					c := newCast()
					c.docker = docker
					image := func(names string) imagetest.Image {
						if list := strings.Fields(names); len(list) > 1 {
							return c.list(list...)
						}
						return c.image(names)
					}
					src, dst := fmt.Sprintf("org/src%d:%t", i, docker), fmt.Sprintf("org/dst%d:%t", i, docker)
					a.push(src, image(tt.source))
					if tt.dest != "" {
						a.push(dst, image(tt.dest))
					}
					report, err := a.publisher().Merge(t.Context(), a.ref(src), a.ref(dst), publish.MergeOptions{PromoteSingle: tt.promote})
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(tt.want, " ") {
						var want []string
						for _, n := range strings.Fields(tt.want) {
							want = append(want, c.names[image(n).Desc.Digest])
						}
						if got := a.entries(dst, c.names); got != strings.Join(want, " ") {
							t.Errorf("the list has %s, want %s", got, want)
						}
					} else {
						a.means(dst, image(tt.want))
					}
					warnings := strings.Join(only(t, report).Warnings, "\n")
					if !strings.Contains(warnings, tt.warning) || (warnings == "") != (tt.warning == "") {
						t.Errorf("warnings %q, want %q", warnings, tt.warning)
					}
				})
			}
		}
	})
}

func TestMergeSelection(t *testing.T) {
	a := plainArena(t)
	linux := func(arch, variant string) oci.Platform {
		return oci.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	tests := []struct {
		name string
		pick publish.Selection
		want string // "" is a refusal
	}{
		{"all", publish.Selection{}, "1 2 3 4 9"},
		{"only", publish.Selection{Only: []oci.Platform{linux("amd64", "")}}, "1 8 9"},
		{"only, by architecture", publish.Selection{Only: []oci.Platform{{Architecture: "x86_64"}}}, "1 4 8 9"},
		{"only, every variant", publish.Selection{Only: []oci.Platform{linux("arm", "")}}, "2 3 7 9"},
		{"only, one variant", publish.Selection{Only: []oci.Platform{linux("arm", "v6")}}, "3 7 8 9"},
		{"except", publish.Selection{Except: []oci.Platform{linux("arm", "")}}, "1 4 8 9"},
		{"only, except", publish.Selection{Only: []oci.Platform{{OS: "linux"}}, Except: []oci.Platform{linux("arm", "v7")}}, "1 3 8 9"},
		{"a build of Windows", publish.Selection{Only: []oci.Platform{{OS: "windows", OSVersion: "10.0.17763"}}}, "4 7 8 9"},
		{"part of a number is no build", publish.Selection{Only: []oci.Platform{{OS: "windows", OSVersion: "10.0.1"}}}, ""},
		{"none", publish.Selection{Only: []oci.Platform{linux("s390x", "")}}, ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCast()
			dest := fmt.Sprintf("org/app:%d", i)
			old := c.list("amd64=7", "arm/v7=8", "riscv64=9")
			a.push("org/app:new", c.list("amd64=1", "arm/v7=2", "arm/v6=3", "windows/amd64:10.0.17763.5122=4"))
			a.push(dest, old)
			_, err := a.publisher().Merge(t.Context(), a.ref("org/app:new"), a.ref(dest), publish.MergeOptions{Select: tt.pick})
			if tt.want == "" {
				if !errors.Is(err, oci.ErrUsage) {
					t.Errorf("%v, want an error matching %v", err, oci.ErrUsage)
				}
				a.means(dest, old)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := a.entries(dest, c.names); got != tt.want {
				t.Errorf("the list has %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("a single image that isn't chosen", func(t *testing.T) {
		c := newCast()
		a.push("org/app:single", c.image("amd64=1"))
		pick := publish.Selection{Except: []oci.Platform{linux("amd64", "")}}
		_, err := a.publisher().Merge(t.Context(), a.ref("org/app:single"), a.ref("org/app:none"), publish.MergeOptions{Select: pick})
		if !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%v, want an error matching %v", err, oci.ErrUsage)
		}
	})
}

// What a hook refuses is taken back; a guard tag is written before the tag, and goes
// with it.
func TestMergeGuardAndHooks(t *testing.T) {
	everywhere(t, func(t *testing.T, a *arena) {
		c := newCast()
		a.push("org/app:new", c.fresh())
		a.push("org/app:1", c.old())
		guard := publish.Guard{Template: "keep-{digest}"}
		_, err := a.publisher().Merge(t.Context(), a.ref("org/app:new"), a.ref("org/app:1"), publish.MergeOptions{Guard: guard, Hooks: publish.Hooks{Sign: []string{"false"}}})
		if err == nil {
			t.Error("no error")
		}
		a.means("org/app:1", c.old())

		a.on(nil)
		report, err := a.publisher().Merge(t.Context(), a.ref("org/app:new"), a.ref("org/app:1"), publish.MergeOptions{Guard: guard, Hooks: publish.Hooks{Sign: []string{"true"}}})
		if err != nil {
			t.Fatal(err)
		}
		kept := "org/app:keep-" + only(t, report).New.Encoded()
		if got := a.puts(); len(got) != 2 || got[0] != kept || got[1] != "org/app:1" {
			t.Errorf("written: %q, want %q first", got, kept)
		}
	})
}
