package publish_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestUntagWhatGoesMeanwhile(t *testing.T) {
	open := func(t *testing.T) *place {
		p := plainPlace(t)
		p.fill("name/repo")
		p.push("name/repo:5", newCast().image("amd64=5"))
		return p
	}
	reads := func(r *http.Request, tag string) bool {
		return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.HasSuffix(r.URL.Path, "/manifests/"+tag)
	}
	t.Run("A58 a tag that was just deleted", func(t *testing.T) {
		p := open(t)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			return reads(r, "5") && answer(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		})
		r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(r, "deleted name/repo:1")
	})
	t.Run("A58 a tag that can't be read", func(t *testing.T) {
		for _, status := range []int{500, 401, 403, 429} {
			p := open(t)
			p.on(func(w http.ResponseWriter, r *http.Request) bool {
				return reads(r, "5") && answer(w, status, "UNKNOWN")
			})
			_, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{})
			is(t, err, oci.ErrIncomplete, oci.ErrRefused)
			p.wantDeletes()
		}
	})
	t.Run("a 404 that is not the registry's", func(t *testing.T) {
		p := open(t)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !reads(r, "5") {
				return false
			}
			http.Error(w, "<html>not here</html>", http.StatusNotFound)
			return true
		})
		_, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{})
		is(t, err, oci.ErrIncomplete, oci.ErrRefused)
		p.wantDeletes()
	})
	t.Run("a tag that moves before it is deleted", func(t *testing.T) {
		p := open(t)
		img, moved := newCast().image("amd64=new"), false
		p.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete && !moved { // of tag 1
				moved = true
				p.push("name/repo:2", img)
			}
			return false
		})
		sig, sigImg := about(img.Desc.Digest, ".sig")
		p.push("name/repo:"+sig, sigImg)
		att, attImg := about(newCast().image("amd64=2e8f").Desc.Digest, ".att")
		p.push("name/repo:"+att, attImg)
		r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1", "name/repo:2", "name/repo:5"), publish.UntagOptions{RemoveLast: true})
		is(t, err, oci.ErrMoved)
		p.wantStatuses(r, "deleted name/repo:1", "conflict name/repo:2", "deleted name/repo:5", "skipped name/repo:"+att)
		p.means("name/repo:2", img)
		p.means("name/repo:"+att, attImg)
		p.means("name/repo:"+sig, sigImg)
	})
	t.Run("a tag that moves while it is looked at", func(t *testing.T) {
		p := open(t)
		img, n := newCast().image("amd64=new"), 0
		p.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && reads(r, "5") { // the journal's copy
				if n++; n == 1 {
					p.push("name/repo:5", img)
				}
			}
			return false
		})
		r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:5"), publish.UntagOptions{RemoveLast: true})
		if err != nil {
			t.Fatal(err)
		}
		// It was all looked at again, and what is lost is what it means now.
		if got := r.Items[0].LostDigests; len(got) != 1 || got[0] != img.Desc.Digest || n != 2 {
			t.Errorf("lost %v after %d looks", got, n)
		}
	})
}

func TestUntagThatFailsInTheMiddle(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		list, _ := p.fill("name/repo")
		att, attImg := about(list.Children[0].Desc.Digest, ".att")
		p.push("name/repo:"+att, attImg)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/2") && answer(w, http.StatusInternalServerError, "UNKNOWN")
		})
		pub := p.publisher()
		pub.Journal = filepath.Join(t.TempDir(), "journal")
		r, err := pub.Untag(t.Context(), p.refs("name/repo:1", "name/repo:2", "name/repo:3"), publish.UntagOptions{RemoveLast: true})
		if err == nil {
			t.Fatal("no error")
		}
		// What is done stays so, nothing else is begun, and no image loses what is about it.
		p.wantStatuses(r, "deleted name/repo:1", "failed name/repo:2", "skipped name/repo:3", "skipped name/repo:"+att)
		if there := p.tags("name/repo", "1", "2", "3", "4", att); there != "2 3 4 "+att {
			t.Errorf("there are %s", there)
		}
		p.on(nil)
		if r, err = pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
			t.Fatal(err)
		}
		p.means("name/repo:1", list)
		if len(r.Undone) != 2 {
			t.Errorf("undone: %+v", r.Undone)
		}

		pub.Journal = filepath.Join(t.TempDir(), "journal")
		if _, err := pub.Untag(t.Context(), p.refs("name/repo:1", "name/repo:2"), publish.UntagOptions{RemoveLast: true}); err != nil {
			t.Fatal(err)
		}
		if there := p.tags("name/repo", "1", "2", att); there != "" {
			t.Errorf("there are %s", there)
		}
		if _, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
			t.Fatal(err)
		}
		p.means("name/repo:1", list)
		p.means("name/repo:2", list)
		p.means("name/repo:"+att, attImg)
	})
}

func TestUntagInterrupted(t *testing.T) {
	p := plainPlace(t)
	p.fill("name/repo")
	ctx, cancel := context.WithCancel(t.Context())
	p.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			cancel()
		}
		return false
	})
	r, err := p.publisher().Untag(ctx, p.refs("name/repo:1", "name/repo:3"), publish.UntagOptions{})
	is(t, err, context.Canceled)
	if !r.Interrupted || r.Items[0].Changes[1].Status != publish.Skipped || len(p.deletes()) != 1 {
		t.Errorf("report: %+v", r)
	}
}
