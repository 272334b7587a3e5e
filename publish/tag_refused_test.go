package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// On a Quay the proof that a tag isn't there may create its repository. What is
// refused because of the source alone asks for none.
func TestRefusedBecauseOfSource(t *testing.T) {
	windows := oci.Platform{OS: "windows", Architecture: "amd64"}
	tests := map[string]func(a *arena) error{
		"tag": func(a *arena) error {
			_, err := a.publisher().Tag(t.Context(), a.ref("org/src:1"), a.refs("org/made:1"), publish.TagOptions{Platform: &windows})
			return err
		},
		"tag a single image": func(a *arena) error {
			_, err := a.publisher().Tag(t.Context(), a.ref("org/src:single"), a.refs("org/made:1"), publish.TagOptions{Platform: &windows})
			return err
		},
		"merge": func(a *arena) error {
			_, err := a.publisher().Merge(t.Context(), a.ref("org/src:1"), a.ref("org/made:1"),
				publish.MergeOptions{Select: publish.Selection{Only: []oci.Platform{windows}}})
			return err
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			a, c := quayArena(t), newCast()
			a.push("org/src:1", c.fresh())
			a.push("org/src:single", c.image("arm64=1"))
			a.on(nil)
			if err := do(a); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%v, want an error matching %v", err, oci.ErrUsage)
			}
			if asked := slices.DeleteFunc(a.requests(), func(r string) bool { return !strings.Contains(r, "/org/made/") }); len(asked) > 0 {
				t.Errorf("the destination was asked: %q", asked)
			}
		})
	}
}

// A hook that isn't there is found out before anything is asked or a journal is begun.
func TestHooksAreLookedForFirst(t *testing.T) {
	hooks := publish.Hooks{Sign: []string{"/nowhere/signer"}}
	archs := publish.ArchOptions{Archs: []string{"arm64"}, Hooks: hooks}
	for name, do := range map[string]func(a *arena, p *publish.Publisher) error{
		"tag": func(a *arena, p *publish.Publisher) error {
			_, err := p.Tag(t.Context(), a.ref("org/a:1"), a.refs("org/a:2"), publish.TagOptions{Hooks: hooks})
			return err
		},
		"merge": func(a *arena, p *publish.Publisher) error {
			_, err := p.Merge(t.Context(), a.ref("org/a:1"), a.ref("org/a:2"), publish.MergeOptions{Hooks: hooks})
			return err
		},
		"tag add": func(a *arena, p *publish.Publisher) error {
			_, err := p.AddPlatforms(t.Context(), a.ref("org/a:1"), a.refs("org/a:2"), archs)
			return err
		},
		"tag remove": func(a *arena, p *publish.Publisher) error {
			_, err := p.RemovePlatforms(t.Context(), a.refs("org/a:1"), archs)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := plainArena(t)
			a.push("org/a:1", newCast().fresh())
			a.on(nil)
			p := a.publisher()
			p.Journal = filepath.Join(t.TempDir(), "journal")
			if err := do(a, p); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("got %v, want a usage error", err)
			}
			if _, err := os.Stat(p.Journal); err == nil || len(a.requests()) > 0 {
				t.Errorf("there is a journal, or it asked %q", a.requests())
			}
		})
	}
}

// An image whose config says no platform is told by the reference that it has.
func TestPlatformNobodyKnows(t *testing.T) {
	a := quayArena(t)
	a.push("org/src:mute", imagetest.New(oci.Platform{}, nil, imagetest.Files(map[string]string{"a": "b"})))
	arm := oci.Platform{Architecture: "arm64"}
	_, tagErr := a.publisher().Tag(t.Context(), a.ref("org/src:mute"), a.refs("org/dst:1"), publish.TagOptions{Platform: &arm})
	_, mergeErr := a.publisher().Merge(t.Context(), a.ref("org/src:mute"), a.ref("org/dst:1"), publish.MergeOptions{Select: publish.Selection{Only: []oci.Platform{arm}}})
	for verb, err := range map[string]error{"tag": tagErr, "merge": mergeErr} {
		if !errors.Is(err, oci.ErrInvalid) || !strings.HasPrefix(err.Error(), "read the platform of "+a.host+"/org/src:mute") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}
