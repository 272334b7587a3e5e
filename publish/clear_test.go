package publish_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestClear(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		c := newCast()
		images := map[string]imagetest.Image{
			"name/image:1": c.image("amd64=1"), "name/image:2": c.image("amd64=2"),
			"name2/image2:3": c.list("amd64=3", "arm64=3"), "name2/image2:4": c.image("amd64=4"),
		}
		for ref, img := range images {
			p.push(ref, img)
		}
		pub := p.publisher()
		_, err := pub.Clear(t.Context(), p.refs("name/image"), publish.ClearOptions{})
		is(t, err, oci.ErrRefused) // nobody has agreed
		if asked := p.answered(); len(asked) > 0 {
			t.Errorf("asked %q", asked)
		}
		pub.Yes, pub.Journal = true, filepath.Join(t.TempDir(), "journal")
		var told []string // each tag, and how far that is
		pub.Events = func(e publish.Event) {
			told = append(told, fmt.Sprintf("%s:%s %s %d/%d", e.Ref.Repository, e.Ref.Tag, e.Change.Status, e.Done, e.All))
		}
		// A67 all tags of all repositories, images' last tags too. That nobody signs
		// here is ours (A68), and so are names: host/repository, trimmed by who reads them.
		r, err := pub.Clear(t.Context(), p.refs("name2/image2", "name/image", "name2/image2"), publish.ClearOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(r, "deleted name2/image2:3", "deleted name2/image2:4", "deleted name/image:1", "deleted name/image:2")
		p.wantDeletes("name2/image2:3", "name2/image2:4", "name/image:1", "name/image:2")
		if want := []string{"name2/image2:3 deleted 1/4", "name2/image2:4 deleted 2/4", "name/image:1 deleted 3/4", "name/image:2 deleted 4/4"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		told = nil
		if len(r.Items[0].LostDigests) != 4 || len(r.Items[1].LostDigests) != 2 {
			t.Errorf("lost %v and %v", r.Items[0].LostDigests, r.Items[1].LostDigests)
		}
		if r, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
			t.Fatal(err, r)
		}
		if len(told) != 4 || !strings.HasSuffix(told[3], " restored 4/4") {
			t.Errorf("of the rollback told %q", told)
		}
		for ref, img := range images {
			p.means(ref, img)
		}
	})
}

func TestClearKeeps(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		list, _ := p.fill("name/repo")
		other := newCast().image("amd64=7807")
		att, attImg := about(list.Children[1].Desc.Digest, ".att") // of what stays
		second, secondImg := about(attImg.Desc.Digest, ".sig")
		orphan, orphanImg := about(other.Desc.Digest, ".sig") // of what goes
		for tag, img := range map[string]imagetest.Image{att: attImg, second: secondImg, orphan: orphanImg} {
			p.push("name/repo:"+tag, img)
		}
		referrer := referring(newCast().image("amd64=sbom"), list.Desc)
		p.push("name/repo:", referrer)
		third, thirdImg := about(referrer.Desc.Digest, ".sig")
		p.push("name/repo:"+third, thirdImg)

		pub := p.publisher()
		pub.DryRun = true
		var warned []string
		pub.Warn = func(line string) { warned = append(warned, line) }
		kept := []string{att, second, third}
		slices.Sort(kept)
		r, err := pub.Clear(t.Context(), p.refs("name/repo"), publish.ClearOptions{KeepTags: []string{"[12]", "none-*"}})
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(
			r, "planned name/repo:3", "planned name/repo:4", "planned name/repo:"+orphan,
			"kept name/repo:1", "kept name/repo:2", "kept name/repo:"+kept[0], "kept name/repo:"+kept[1], "kept name/repo:"+kept[2],
		)
		p.wantDeletes()
		if len(warned) != 1 || !strings.Contains(warned[0], `no tag matches "none-*"`) {
			t.Errorf("warned %q", warned)
		}
		pub.DryRun, pub.Yes = false, true
		if _, err := pub.Clear(t.Context(), p.refs("name/repo"), publish.ClearOptions{KeepTags: []string{"[12]"}}); err != nil {
			t.Fatal(err)
		}
		if there := p.tags("name/repo", append([]string{"1", "2", "3", "4", orphan}, kept...)...); there != strings.Join(append([]string{"1", "2"}, kept...), " ") {
			t.Errorf("there are %s", there)
		}
		for _, pattern := range []publish.ClearOptions{{KeepTags: []string{""}}} {
			_, err := pub.Clear(t.Context(), p.refs("name/repo"), pattern)
			is(t, err, oci.ErrUsage)
		}
	})
}

func TestClearOfSeveral(t *testing.T) {
	open := func(t *testing.T) (*place, *publish.Publisher) {
		p := quayPlace(t, quaytest.Options{}, true)
		for _, ref := range []string{"name/a:1", "name/b:1", "name/b:2", "name/c:1"} {
			p.push(ref, newCast().image("amd64=1"))
		}
		pub := p.publisher()
		pub.Yes = true
		return p, pub
	}
	t.Run("one isn't there", func(t *testing.T) {
		p, pub := open(t)
		r, err := pub.Clear(t.Context(), p.refs("name/a", "name/none", "name/c"), publish.ClearOptions{})
		is(t, err, oci.ErrNotFound)
		p.wantStatuses(r, "deleted name/a:1", "deleted name/c:1")
		if r.Items[1].Error == "" || r.Items[0].Error != "" {
			t.Errorf("items: %+v", r.Items)
		}
	})
	t.Run("one can't be deleted from", func(t *testing.T) {
		p, pub := open(t)
		if err := p.quay.SetState("name/b", "READ_ONLY"); err != nil {
			t.Fatal(err)
		}
		r, err := pub.Clear(t.Context(), p.refs("name/a", "name/b", "name/c"), publish.ClearOptions{})
		if err == nil {
			t.Error("no error")
		}
		p.wantStatuses(r, "deleted name/a:1", "failed name/b:1", "skipped name/b:2", "deleted name/c:1")
	})
	t.Run("one can't be listed", func(t *testing.T) {
		p, pub := open(t)
		p.on(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "name/c/tag/") && answer(w, http.StatusBadGateway, "")
		})
		_, err := pub.Clear(t.Context(), p.refs("name/a", "name/b", "name/c"), publish.ClearOptions{})
		is(t, err, oci.ErrIncomplete, oci.ErrRefused)
		p.wantDeletes()
	})
	t.Run("what is no repository", func(t *testing.T) {
		p, pub := open(t)
		// A68 the empty name that a comma at the end makes
		for _, refs := range [][]oci.Ref{nil, {{}}, {{Registry: p.host}}, p.refs("name/a:1"), p.refs("name/a", "name/a@sha256:"+strings.Repeat("a", 64))} {
			_, err := pub.Clear(t.Context(), refs, publish.ClearOptions{})
			is(t, err, oci.ErrUsage)
			_, err = pub.Remove(t.Context(), refs)
			is(t, err, oci.ErrUsage)
		}
	})
}
