package publish_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/publish"
)

// With the last tag of a digest Quay lets cosign's tags about it end, though nobody
// asked for that.
func TestSiblingsThatQuayEnds(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		c := newCast()
		img, list := c.image("amd64=sibling"), c.list("amd64=1", "arm64=2")
		push := func(repo string) (imgSig, childSig string, sigs map[string]imagetest.Image) {
			p.on(nil)
			sigs = map[string]imagetest.Image{}
			p.push(repo+":a", img)
			p.push(repo+":b", c.image("amd64=other"))
			p.push(repo+":child", list.Children[0])
			p.push(repo+":list", list)
			for _, about := range []imagetest.Image{img, list.Children[0]} {
				tag, sig := signature(about)
				p.push(repo+":"+tag, sig)
				sigs[tag] = sig
			}
			imgSig, _ = signature(img)
			childSig, _ = signature(list.Children[0])
			return imgSig, childSig, sigs
		}
		pub := p.publisher()
		pub.Yes = true
		begin := func(t *testing.T) { pub.Journal = filepath.Join(t.TempDir(), "journal") }
		undo := func(t *testing.T) {
			t.Helper()
			p.on(nil)
			if _, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
				t.Fatal(err)
			}
		}

		t.Run("what goes along is in the journal", func(t *testing.T) {
			sig, _, sigs := push("name/along")
			begin(t)
			r, err := pub.Untag(t.Context(), p.refs("name/along:a"), publish.UntagOptions{RemoveLast: true})
			if err != nil {
				t.Fatal(err)
			}
			p.wantStatuses(r, "deleted name/along:a", "deleted name/along:"+sig)
			if there := p.tags("name/along", "a", sig); there != "" {
				t.Errorf("there are %s", there)
			}
			undo(t)
			p.means("name/along:a", img)
			p.means("name/along:"+sig, sigs[sig])
		})
		t.Run("what went is told, though the run failed", func(t *testing.T) {
			sig, _, sigs := push("name/told")
			begin(t)
			p.on(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/b") && answer(w, http.StatusInternalServerError, "UNKNOWN")
			})
			r, err := pub.Untag(t.Context(), p.refs("name/told:a", "name/told:b"), publish.UntagOptions{RemoveLast: true})
			if err == nil {
				t.Fatal("no error")
			}
			status := map[bool]string{true: "skipped", false: "deleted"}[p.tags("name/told", sig) != ""]
			p.wantStatuses(r, "deleted name/told:a", "failed name/told:b", status+" name/told:"+sig)
			undo(t)
			p.means("name/told:a", img)
			p.means("name/told:"+sig, sigs[sig])
		})
		t.Run("an image that a list holds keeps its signature", func(t *testing.T) {
			_, sig, sigs := push("name/list")
			begin(t)
			r, err := pub.Untag(t.Context(), p.refs("name/list:child"), publish.UntagOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p.wantStatuses(r, "deleted name/list:child")
			p.means("name/list:"+sig, sigs[sig])
			undo(t)
			p.means("name/list:child", list.Children[0])
			p.means("name/list:"+sig, sigs[sig])
		})
		t.Run("so it does when all else goes", func(t *testing.T) {
			gone, sig, sigs := push("name/clear")
			begin(t)
			if _, err := pub.Clear(t.Context(), p.refs("name/clear"), publish.ClearOptions{KeepTags: []string{"list"}}); err != nil {
				t.Fatal(err)
			}
			if there := p.tags("name/clear", "a", "b", "child", gone, "list", sig); there != "list "+sig {
				t.Errorf("there are %s", there)
			}
			p.means("name/clear:"+sig, sigs[sig])
			undo(t)
			p.means("name/clear:"+gone, sigs[gone])
		})
		t.Run("one that is not given back is told, and in the journal", func(t *testing.T) {
			_, sig, sigs := push("name/refused")
			begin(t)
			p.on(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && answer(w, http.StatusForbidden, "DENIED")
			})
			_, err := pub.Untag(t.Context(), p.refs("name/refused:child"), publish.UntagOptions{})
			p.on(nil)
			if there := p.tags("name/refused", sig) != ""; there != (err == nil) {
				t.Errorf("there: %v, got %v", there, err)
			}
			undo(t)
			p.means("name/refused:"+sig, sigs[sig])
		})
	})
}

// signature gives what cosign keeps about img.
func signature(img imagetest.Image) (string, imagetest.Image) { return about(img.Desc.Digest, ".sig") }
