package publish_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
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
	fails := func(p *place, d oci.Digest) {
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method != http.MethodDelete:
				return false
			case !strings.Contains(r.URL.Path, "sha256:"):
				return answer(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
			}
			return strings.HasSuffix(r.URL.Path, string(d)) && answer(w, http.StatusInternalServerError, "UNKNOWN")
		})
	}
	t.Run("a list that stays keeps its image", func(t *testing.T) {
		p, pub := open(t)
		fails(p, list.Desc.Digest)
		r, err := pub.Untag(t.Context(), p.refs("name/repo:child", "name/repo:list"), gone)
		if err == nil {
			t.Fatal("no error")
		}
		p.wantStatuses(r, "failed name/repo:child", "skipped name/repo:list")
		if there := p.tags("name/repo", all...); there != "a b child list" {
			t.Errorf("there are %s", there)
		}
	})
	t.Run("what went with another is told, though the run failed", func(t *testing.T) {
		p, pub := open(t)
		p.push("name/repo:ab", c.image("amd64=ab"))
		fails(p, c.image("amd64=ab").Desc.Digest)
		r, err := pub.Untag(t.Context(), p.refs("name/repo:a", "name/repo:ab", "name/repo:b"), gone)
		if err == nil {
			t.Fatal("no error")
		}
		p.wantStatuses(r, "deleted name/repo:a", "failed name/repo:ab", "deleted name/repo:b")
	})
	t.Run("a list that somebody moves, with its image", func(t *testing.T) {
		p, pub := open(t)
		other := imagetest.Index(list.Children...)
		other.Raw = append(other.Raw, '\n')
		other.Desc.Digest, other.Desc.Size = digest.FromBytes(other.Raw), int64(len(other.Raw))
		heads := 0
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/list") {
				if heads++; heads == 3 { // for the list, for the list again, before it is deleted
					p.push("name/repo:list", other)
				}
			}
			return r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "sha256:") && answer(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		})
		r, err := pub.Untag(t.Context(), p.refs("name/repo:child", "name/repo:list"), gone)
		is(t, err, oci.ErrMoved)
		if there := p.tags("name/repo", all...); there != "a b child list" || heads < 3 {
			t.Errorf("there are %s after %d looks: %v", there, heads, p.statuses(r))
		}
		p.means("name/repo:child", one)
		p.means("name/repo:list", other)
	})
}
