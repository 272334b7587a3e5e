package publish_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestRemove(t *testing.T) {
	p := quayPlace(t, quaytest.Options{}, true)
	list, lost := p.fill("name/image")
	one := newCast().image("amd64=1")
	p.push("name2/image2:3", one)
	p.push("name/stays:1", one)
	pub := p.publisher()
	_, err := pub.Remove(t.Context(), p.refs("name/image"))
	is(t, err, oci.ErrRefused) // nobody has agreed

	pub.DryRun = true
	r, err := pub.Remove(t.Context(), p.refs("name/image", "name2/image2"))
	if err != nil {
		t.Fatal(err)
	}
	p.wantStatuses(
		r, "planned name/image", "planned name/image:1", "planned name/image:2", "planned name/image:3", "planned name/image:4",
		"planned name2/image2", "planned name2/image2:3",
	)
	if c := r.Items[0].Changes[0]; len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "can't be restored") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if c := r.Items[0].Changes[1]; c.Old != list.Desc.Digest {
		t.Errorf("got %+v", c)
	}
	if got := r.Items[0].LostDigests; len(got) != len(lost)+3 || got[0] != lost[0] {
		t.Errorf("lost %v", got)
	}
	p.wantDeletes()

	pub.DryRun, pub.Yes, pub.Journal = false, true, filepath.Join(t.TempDir(), "journal")
	// A67 one DELETE for each repository; the host of the reference is honoured (A68).
	r, err = pub.Remove(t.Context(), p.refs("name/image", "name2/image2"))
	if err != nil {
		t.Fatal(err)
	}
	p.wantDeletes("name/image", "name2/image2")
	if r.Totals[publish.Deleted] != 7 || r.Items[0].Changes[0].Status != publish.Deleted {
		t.Errorf("report: %+v", r)
	}
	if there := p.tags("name/image", "1"); there != "" {
		t.Errorf("it is still there")
	}
	p.means("name/stays:1", one)
	raw, err := os.ReadFile(pub.Journal)
	if err != nil || !strings.Contains(string(raw), string(list.Desc.Digest)) {
		t.Errorf("the journal doesn't say what the tags meant: %v", err)
	}
	// There is nothing that a rollback would touch.
	if r, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil || len(r.Undone) > 0 {
		t.Errorf("undone: %v, %+v", err, r.Undone)
	}
}

func TestRemoveRefuses(t *testing.T) {
	t.Run("without a token", func(t *testing.T) {
		// A67 Messages of the token. A registry's login isn't enough, and isn't asked for.
		p := quayPlace(t, quaytest.Options{}, false)
		pub := p.publisher()
		pub.Yes = true
		_, err := pub.Remove(t.Context(), p.refs("name/image"))
		is(t, err, oci.ErrUsage)
		if err == nil || !strings.Contains(err.Error(), "--quay-api-token") || !strings.Contains(err.Error(), "repo clear") {
			t.Errorf("got %v", err)
		}
	})
	open := func(t *testing.T) (*place, *publish.Publisher) {
		p := quayPlace(t, quaytest.Options{}, true)
		for _, ref := range []string{"name/a:1", "name/b:1"} {
			p.push(ref, newCast().image("amd64=1"))
		}
		pub := p.publisher()
		pub.Yes = true
		return p, pub
	}
	t.Run("a repository that isn't there", func(t *testing.T) {
		p, pub := open(t)
		r, err := pub.Remove(t.Context(), p.refs("name/none", "name/a"))
		is(t, err, oci.ErrNotFound)
		p.wantStatuses(r, "absent name/none", "deleted name/a", "deleted name/a:1")
	})
	t.Run("a token that doesn't administer it", func(t *testing.T) {
		p, pub := open(t)
		p.quay.CreateUser("bob", "")
		if err := p.quay.Grant("name/a", "bob", "write"); err != nil {
			t.Fatal(err)
		}
		pub.Dest.APIToken = p.quay.AddToken("bob", "repo:admin")
		r, err := pub.Remove(t.Context(), p.refs("name/a"))
		is(t, err, oci.ErrDenied)
		p.wantStatuses(r, "failed name/a")
		p.wantDeletes()
	})
	for name, hit := range map[string]string{"whether it is there can't be told": "/api/v1/repository/name/b", "a list can't be read": "/v2/name/b/manifests/"} {
		t.Run(name, func(t *testing.T) {
			p, pub := open(t)
			p.push("name/b:list", newCast().list("amd64=1", "arm64=1"))
			p.on(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, hit) && answer(w, http.StatusBadGateway, "")
			})
			_, err := pub.Remove(t.Context(), p.refs("name/a", "name/b"))
			is(t, err, oci.ErrIncomplete, oci.ErrRefused)
			p.wantDeletes()
		})
	}
	t.Run("a registry that says so and doesn't", func(t *testing.T) {
		p, pub := open(t)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
			}
			return r.Method == http.MethodDelete
		})
		r, err := pub.Remove(t.Context(), p.refs("name/a"))
		if err == nil {
			t.Error("no error")
		}
		p.wantStatuses(r, "failed name/a", "failed name/a:1")
	})
}
