package publish_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// byDigestOnly is a registry that deletes manifests and no tags.
func byDigestOnly(t *testing.T) *place {
	p := quayPlace(t, quaytest.Options{TagCache: -1}, false)
	p.on(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "sha256:") && answer(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
	})
	return p
}

func TestUntagByDigest(t *testing.T) {
	c := newCast()
	one, two, list := c.image("amd64=1"), c.image("arm64=2"), c.list("amd64=1", "arm64=3")
	open := func(t *testing.T) (*place, *publish.Publisher) {
		p := byDigestOnly(t)
		p.push("name/repo:list", list)
		p.push("name/repo:child", one) // an image of the list
		p.push("name/repo:a", two)
		p.push("name/repo:b", two)
		pub := p.publisher()
		pub.AllowDigestDelete = true
		pub.Journal = filepath.Join(t.TempDir(), "journal")
		return p, pub
	}
	all := []string{"a", "b", "child", "list"}
	gone := publish.UntagOptions{RemoveLast: true}

	t.Run("it has to be allowed", func(t *testing.T) {
		p, pub := open(t)
		pub.AllowDigestDelete = false
		r, err := pub.Untag(t.Context(), p.refs("name/repo:a", "name/repo:b"), gone)
		is(t, err, oci.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), "--allow-digest-delete") {
			t.Errorf("got %v", err)
		}
		p.wantStatuses(r, "failed name/repo:a", "skipped name/repo:b")
		if there := p.tags("name/repo", all...); there != "a b child list" {
			t.Errorf("there are %s", there)
		}
	})
	for name, tag := range map[string]string{"not what another tag has": "a", "not what a list holds": "child"} {
		t.Run(name, func(t *testing.T) {
			p, pub := open(t)
			r, err := pub.Untag(t.Context(), p.refs("name/repo:"+tag), gone)
			is(t, err, oci.ErrUnsupported)
			p.wantStatuses(r, "failed name/repo:"+tag)
			if there := p.tags("name/repo", all...); there != "a b child list" {
				t.Errorf("there are %s", there)
			}
		})
	}
	t.Run("not what another tag has by now", func(t *testing.T) {
		p, pub := open(t)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodDelete || strings.Contains(r.URL.Path, "sha256:") {
				return false
			}
			p.push("name/repo:new", two) // after all was looked at
			return answer(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		})
		_, err := pub.Untag(t.Context(), p.refs("name/repo:a", "name/repo:b"), gone)
		is(t, err, oci.ErrUnsupported)
		if there := p.tags("name/repo", "a", "b", "new"); there != "a b new" {
			t.Errorf("there are %s", there)
		}
	})
	t.Run("tags that go together", func(t *testing.T) {
		p, pub := open(t)
		r, err := pub.Untag(t.Context(), p.refs("name/repo:a", "name/repo:b"), gone)
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(r, "deleted name/repo:a", "deleted name/repo:b")
		// The first tag tells that the registry can't; then one DELETE has both.
		p.wantDeletes("name/repo:" + string(two.Desc.Digest))
		if there := p.tags("name/repo", all...); there != "child list" {
			t.Errorf("there are %s", there)
		}
		if _, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
			t.Fatal(err)
		}
		p.means("name/repo:a", two)
		p.means("name/repo:b", two)
	})
	t.Run("a list with its image", func(t *testing.T) {
		p, pub := open(t)
		r, err := pub.Untag(t.Context(), p.refs("name/repo:child", "name/repo:list"), gone)
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(r, "deleted name/repo:child", "deleted name/repo:list")
		if there := p.tags("name/repo", all...); there != "a b" {
			t.Errorf("there are %s", there)
		}
	})
}
