package publish

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A69: what is there is kept with its bytes, OCI or docker, and what isn't is
// marked to be deleted.
func TestA69SnapshotsOfWhatIsThereAndWhatIsNot(t *testing.T) {
	onStages(t, func(p *stage) {
		there := map[string]imagetest.Image{
			"target----repo1:tag1": oldList, "target----repo2:tag3": oldIndex, "test-repo:latest-test-tag": oldSingle,
		}
		for name, img := range there {
			p.push(name, img)
		}
		p.push("target----repo:other", oldSingle)
		p.push("target----repo1", newIndex)
		absent := []string{"target----repo:latest-test-tag", "target----repo1:tag2", "test-repo:1.0"}
		r := begun(t, p.publisher(), "push")
		var refs []oci.Ref
		for name := range there {
			refs = append(refs, p.ref(name))
		}
		for _, name := range absent {
			refs = append(refs, p.ref(name))
		}
		p.log()
		states, err := r.snapshots(t.Context(), refs)
		if err != nil {
			t.Fatal(err)
		}
		for i, ref := range refs {
			img, want := there[strings.TrimPrefix(ref.Tagged(), p.host+"/org/")]
			got := states[i]
			if want != !got.Absent || got.digest() != img.Desc.Digest || got.Desc.MediaType != img.Desc.MediaType || string(got.Raw) != string(img.Raw) {
				t.Errorf("%s: got %+v", ref, got.Desc)
			}
		}
		if w := p.writes(); len(w) > 0 {
			t.Errorf("a snapshot wrote %q", w)
		}
	})
}

// A70 and A76: an answer that isn't definite ends the run before anything is written.
func TestUnclearSnapshotsEndTheRun(t *testing.T) {
	page := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<html><title>no such page</title></html>"))
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"A70 500":                    status(500, "UNKNOWN"),
		"A76 429":                    status(429, "TOOMANYREQUESTS"),
		"A76 503":                    status(503, "UNAVAILABLE"),
		"A76 403":                    status(403, "DENIED"),
		"a page that isn't there":    page,
		"another code than is known": status(404, "UNSUPPORTED"),
	} {
		t.Run(name, func(t *testing.T) {
			onStages(t, func(p *stage) {
				p.push("a:1", oldIndex)
				p.push("b:1", oldIndex)
				p.shut(on("GET", "/org/b/manifests/1", answer))
				report, err := p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
					states, err := r.snapshots(ctx, []oci.Ref{p.ref("a:1"), p.ref("b:1")})
					if err != nil {
						return err
					}
					return r.put(ctx, p.ref("a:1"), states[0], content(newIndex))
				})
				if err == nil || report.Error == "" {
					t.Errorf("got %v", err)
				}
				if w := p.writes(); len(w) > 0 {
					t.Errorf("it wrote %q", w)
				}
			})
		})
	}
}

// A list whose entries are gone is kept, and said to be restorable in part.
func TestSnapshotOfAListWithoutItsEntries(t *testing.T) {
	p := plainStage(t)
	p.push("a:1", imagetest.Image{Desc: oldIndex.Desc, Raw: oldIndex.Raw, Children: oldIndex.Children[:1]})
	var warned []string
	pub := p.publisher()
	pub.Warn = func(line string) { warned = append(warned, line) }
	r := begun(t, pub, "push")
	s, err := r.snapshot(t.Context(), p.ref("a:1"))
	if err != nil || !s.Partial {
		t.Errorf("got partial %t, %v", s.Partial, err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], string(oldIndex.Children[1].Desc.Digest)) {
		t.Errorf("warned %q", warned)
	}
}

// Where a repository isn't shown, that it isn't there is proved, and the question
// that creates it comes when all others are answered.
func TestProofOfAbsence(t *testing.T) {
	created := func(p *stage) bool {
		return p.quay.SetState("org/new", "NORMAL") == nil
	}
	t.Run("by Quay's API", func(t *testing.T) {
		p := quayStage(t, true)
		r := begun(t, p.publisher(), "push")
		s, err := r.snapshot(t.Context(), p.ref("new:1"))
		if err != nil || !s.Absent || created(p) {
			t.Fatalf("got %+v, %v, created: %t", s, err, created(p))
		}
	})
	t.Run("as one who may push", func(t *testing.T) {
		p := quayStage(t, false)
		p.push("old:1", oldIndex)
		r := begun(t, p.publisher(), "push")
		var sure []string
		p.shut(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if strings.Contains(r.URL.RawQuery, "push") {
				p.mu.Lock()
				defer p.mu.Unlock()
				sure = slices.Clone(p.asked)
			}
			return false
		})
		states, err := r.snapshots(t.Context(), []oci.Ref{p.ref("new:1"), p.ref("old:1")})
		if err != nil || !states[0].Absent || states[1].Absent || !created(p) {
			t.Fatalf("got %+v, %v", states, err)
		}
		if !slices.Contains(sure, "GET /v2/org/old/manifests/1") {
			t.Errorf("it was created when only %q had been asked", sure)
		}
	})
	t.Run("not in a dry run", func(t *testing.T) {
		p := quayStage(t, false)
		pub := p.publisher()
		pub.DryRun = true
		if _, err := begun(t, pub, "push").snapshot(t.Context(), p.ref("new:1")); !errors.Is(err, oci.ErrDenied) || created(p) {
			t.Errorf("got %v, created: %t", err, created(p))
		}
	})
	t.Run("A76 who may not push gets none", func(t *testing.T) {
		p := quayStage(t, false)
		if err := p.quay.CreateRepository("org", "secret", false); err != nil {
			t.Fatal(err)
		}
		p.env.HTTP = stranger(t)
		_, err := begun(t, p.publisher(), "push").snapshot(t.Context(), p.ref("secret:1"))
		if !errors.Is(err, oci.ErrDenied) || !strings.Contains(err.Error(), "can't be told") {
			t.Errorf("got %v", err)
		}
	})
}
