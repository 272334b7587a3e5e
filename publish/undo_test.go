package publish

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

var errBroken = errors.New("something else broke")

// fill pushes two tags that runs move, and what they are moved to. Two others
// aren't there.
func (p *stage) fill() (before tags) {
	p.Helper()
	before = tags{"repo1:1": &oldIndex, "repo2:2": &oldList, "repo3:3": nil, "repo4:4": nil}
	for name, img := range before {
		repo, _, _ := strings.Cut(name, ":")
		p.push(repo, newIndex)
		if img != nil {
			p.push(name, *img)
		}
	}
	return before
}

// written is the order in which [stage.move] writes.
var written = []string{"repo1:1", "repo2:2", "repo3:3", "repo4:4"}

// move is a verb that moves the tags of fill and then ends with err.
func (p *stage) move(err error) verb {
	return func(ctx context.Context, r *run, report *Report) error {
		for _, name := range written {
			item := ItemReport{Source: name, Changes: []Change{{Reference: p.ref(name).Tagged(), Status: Failed}}}
			if err := p.put(r, name, content(newIndex)); err != nil {
				return err
			}
			item.Changes[0].Status = Pushed
			report.Items = append(report.Items, item)
		}
		p.log()
		return err
	}
}

// journaled gives a publisher whose journal is a file.
func (p *stage) journaled() *Publisher {
	pub := p.publisher()
	pub.Journal = filepath.Join(p.TempDir(), "journal")
	return pub
}

// statuses gives what became of each tag, "repo1:1 restored", in the order of the work.
func statuses(p *stage, changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, strings.TrimPrefix(c.Reference, p.host+"/org/")+" "+string(c.Status))
	}
	return out
}

// A71: what was there gets its bytes again and what wasn't is deleted. Ours goes
// through the writes backwards, so the new tags go first.
func TestA71FailedRunIsTakenBack(t *testing.T) {
	onStages(t, func(p *stage) {
		before := p.fill()
		pub := p.journaled()
		pub.Blobs = 1 // one repository after the other, to see the order
		var undoing []string
		pub.Undoing = func() func() {
			undoing = append(undoing, "begins")
			return func() { undoing = append(undoing, "ends") }
		}
		var told []string
		pub.Events = func(e Event) { told = append(told, e.Ref.Tag+" "+string(e.Change.Status)) }
		report, err := pub.do(t.Context(), "push", p.move(errBroken))
		if !errors.Is(err, errBroken) || errors.Is(err, ErrUndoIncomplete) {
			t.Errorf("got %v", err)
		}
		p.want(before)
		del := func(repo, tag string) string {
			if p.env.APIToken != "" {
				return "DELETE /api/v1/repository/org/" + repo + "/tag/" + tag
			}
			return "DELETE /v2/org/" + repo + "/manifests/" + tag
		}
		want := []string{del("repo4", "4"), del("repo3", "3"), "PUT /v2/org/repo2/manifests/2", "PUT /v2/org/repo1/manifests/1"}
		if w := p.writes(); !slices.Equal(w, want) {
			t.Errorf("wrote %q", w)
		}
		if got := statuses(p, report.Undone); !slices.Equal(got, []string{"repo4:4 deleted", "repo3:3 deleted", "repo2:2 restored", "repo1:1 restored"}) {
			t.Errorf("undone: %q", got)
		}
		if report.Totals[RolledBack] != 4 || report.Error == "" || report.Journal != pub.Journal || report.Run == "" || report.Ended.Before(report.Started) {
			t.Errorf("the report says %+v", report)
		}
		if !slices.Equal(undoing, []string{"begins", "ends"}) || !slices.Equal(told, []string{"4 deleted", "3 deleted", "2 restored", "1 restored"}) {
			t.Errorf("Undoing was called %q, and told %q", undoing, told)
		}
	})
}

// A72: that a tag to be deleted is gone is fine. An error in the middle doesn't stop
// the rest; the rollback is then incomplete, and can be gone on with.
func TestA72RollbackGoesOnAfterErrors(t *testing.T) {
	onStages(t, func(p *stage) {
		before := p.fill()
		pub := p.journaled()
		p.shut(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			switch {
			case r.Method != "DELETE":
				return false
			case strings.HasSuffix(r.URL.Path, "/4"): // somebody else is faster
				next.ServeHTTP(discard{}, r)
				status(404, "MANIFEST_UNKNOWN")(w, r, nil)
			default:
				status(500, "UNKNOWN")(w, r, nil)
			}
			return true
		})
		report, err := pub.do(t.Context(), "push", p.move(errBroken))
		if !errors.Is(err, errBroken) || !errors.Is(err, ErrUndoIncomplete) {
			t.Errorf("got %v", err)
		}
		half := tags{"repo1:1": &oldIndex, "repo2:2": &oldList, "repo3:3": &newIndex, "repo4:4": nil}
		p.want(half)
		if report.Totals[RolledBack] != 3 || report.Totals[Failed] != 1 {
			t.Errorf("totals %v", report.Totals)
		}
		p.shut(nil)
		p.log()
		again, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{})
		if err != nil || again.Totals[Deleted] != 1 || again.Totals[Unchanged] != 3 || again.Run != report.Run {
			t.Errorf("got %v, %v", again.Totals, err)
		}
		if w := p.writes(); len(w) != 1 {
			t.Errorf("wrote %q", w)
		}
		p.want(before)
	})
}

// A76: an OCI tag that was there is restored, and never deleted.
func TestA76OCITagIsRestored(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		_, err := p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, _ *Report) error {
			return errors.Join(p.put(r, "a:1", content(newIndex)), errBroken)
		})
		if !errors.Is(err, errBroken) {
			t.Error(err)
		}
		for _, w := range p.writes() {
			if strings.HasPrefix(w, "DELETE") {
				t.Errorf("it asked %s", w)
			}
		}
		p.want(tags{"a:1": &oldIndex})
	})
}

// A77: what somebody else moved meanwhile is left alone, unless it is insisted on.
func TestA77Conflict(t *testing.T) {
	onStages(t, func(p *stage) {
		before := p.fill()
		pub := p.journaled()
		report, err := pub.do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
			if err := p.move(nil)(ctx, r, report); err != nil {
				return err
			}
			p.push("repo1:1", others)
			p.push("repo3:3", others)
			return errBroken
		})
		if !errors.Is(err, errBroken) || !errors.Is(err, ErrUndoIncomplete) {
			t.Errorf("got %v", err)
		}
		p.want(tags{"repo1:1": &others, "repo2:2": &oldList, "repo3:3": &others, "repo4:4": nil})
		if report.Totals[Conflict] != 2 || report.Totals[RolledBack] != 2 {
			t.Errorf("totals %v", report.Totals)
		}

		plan := p.publisher()
		plan.DryRun = true
		p.log()
		r, err := plan.Undo(t.Context(), pub.Journal, UndoOptions{Force: true})
		if err != nil || r.Totals[Planned] != 2 || r.Totals[Unchanged] != 2 || len(p.writes()) > 0 {
			t.Errorf("the plan is %v, %v", r.Totals, err)
		}
		if _, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{}); !errors.Is(err, ErrUndoIncomplete) {
			t.Errorf("got %v", err)
		}
		p.want(tags{"repo1:1": &others, "repo3:3": &others})
		if _, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{Force: true}); err != nil {
			t.Error(err)
		}
		p.want(before)
	})
}

// A78, without the kill: a run that is dropped after two of its writes is undone
// from its journal; a second time changes nothing.
func TestA78DroppedRunIsUndoneFromItsJournal(t *testing.T) {
	onStages(t, func(p *stage) {
		before := p.fill()
		pub := p.journaled()
		r := begun(t, pub, "push")
		for _, name := range []string{"repo1:1", "repo3:3"} {
			if err := p.put(r, name, content(newIndex)); err != nil {
				t.Fatal(err)
			}
		}
		// What would have been next was announced, and not begun.
		if _, err := r.snapshot(t.Context(), p.ref("repo2:2")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.journal.Intent(p.ref("repo2:2").Tagged(), journal.Put, newIndex.Desc.Digest, inHours(0)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{}); !errors.Is(err, oci.ErrRefused) {
			t.Errorf("while it is at work: %v", err)
		}
		if err := errors.Join(r.journal.Close(), r.lock.Release()); err != nil { // as its end would
			t.Fatal(err)
		}
		tear(t, pub.Journal)
		p.want(tags{"repo1:1": &newIndex, "repo3:3": &newIndex})

		refs, err := Journaled(pub.Journal)
		if err != nil || len(refs) != 3 || refs[0] != p.ref("repo2:2") {
			t.Errorf("it wrote %v, %v", refs, err)
		}
		report, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := statuses(p, report.Undone); !slices.Equal(got, []string{"repo2:2 unchanged", "repo3:3 deleted", "repo1:1 restored"}) {
			t.Errorf("undone: %q", got)
		}
		if len(report.Undone[0].Warnings) != 1 {
			t.Errorf("it doesn't warn of a write that may come yet: %q", report.Undone[0].Warnings)
		}
		p.want(before)
		p.log()
		report, err = p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{})
		if err != nil || report.Totals[Unchanged] != 3 || len(p.writes()) > 0 {
			t.Errorf("the second time: %v, %v", report.Totals, err)
		}
	})
}

// tear leaves half a line at the end of the journal.
func tear(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"kind":"intent","n":9,"ref":"exam`)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A79: a run that is interrupted is taken back, by a context of its own. Its journal
// is its owner's alone, and holds no secret.
func TestA79InterruptedRun(t *testing.T) {
	onStages(t, func(p *stage) {
		before := p.fill()
		pub := p.journaled()
		ctx, cancel := context.WithCancel(t.Context())
		report, err := pub.do(ctx, "push", func(ctx context.Context, r *run, report *Report) error {
			err := p.move(nil)(ctx, r, report)
			cancel()
			return err
		})
		if !errors.Is(err, context.Canceled) || !report.Interrupted || report.Totals[RolledBack] != 4 {
			t.Errorf("got %v, %v", err, report.Totals)
		}
		p.want(before)
		info, err := os.Stat(pub.Journal)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the journal's mode is %v, %v", info.Mode(), err)
		}
		raw, err := os.ReadFile(pub.Journal)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.secrets {
			if strings.Contains(string(raw), s) {
				t.Errorf("the journal holds %s", s)
			}
		}
		if _, err := pub.begin(t.Context(), "push"); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("a second run with the same journal: %v", err)
		}
	})
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
