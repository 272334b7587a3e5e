package publish

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func TestPolicies(t *testing.T) {
	moved := tags{"repo1:1": &newIndex, "repo2:2": &newIndex, "repo3:3": &newIndex, "repo4:4": &newIndex}
	for _, tt := range []struct {
		command string
		policy  Policy
		back    bool
	}{{"push", "", true}, {"push", Never, false}, {"clear", "", false}, {"clear", Auto, true}} {
		t.Run(tt.command+" "+string(tt.policy), func(t *testing.T) {
			p := plainStage(t)
			before := p.fill()
			pub := p.publisher()
			pub.Rollback = tt.policy
			if _, err := pub.do(t.Context(), tt.command, p.move(errBroken)); !errors.Is(err, errBroken) {
				t.Error(err)
			}
			if tt.back {
				p.want(before)
			} else {
				p.want(moved)
			}
		})
	}
}

// Of several items only those that failed are taken back where that is asked for.
func TestScopeOfOneItem(t *testing.T) {
	p := plainStage(t)
	p.fill()
	pub := p.publisher()
	pub.Scope = OneItem
	report, err := pub.do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
		err := p.move(errBroken)(ctx, r, report)
		report.Items[1].Error = "its signer failed"
		report.Items[2].Changes[0].Status = Failed
		return err
	})
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
	p.want(tags{"repo1:1": &newIndex, "repo2:2": &oldList, "repo3:3": nil, "repo4:4": &newIndex})
	if report.Totals[Pushed] != 2 || report.Totals[RolledBack] != 2 {
		t.Errorf("totals %v", report.Totals)
	}
}

func TestPanicIsTakenBack(t *testing.T) {
	for _, where := range []string{"the verb", "a goroutine of it"} {
		t.Run(where, func(t *testing.T) {
			p := plainStage(t)
			before := p.fill()
			defer func() {
				if recover() == nil {
					t.Error("it is swallowed")
				}
				p.want(before)
			}()
			_, _ = p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
				if err := p.move(nil)(ctx, r, report); err != nil {
					return err
				}
				if where == "the verb" {
					panic("a mistake")
				}
				done := make(chan error)
				go func() { done <- safely(func() error { panic("a mistake") })() }()
				return <-done
			})
		})
	}
}

// Several writes to one tag go back to what was there before the first.
func TestTagThatWasWrittenTwice(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		p.push("a", newSingle)
		report, err := p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, _ *Report) error {
			return errors.Join(p.put(r, "a:1", content(newIndex)), p.put(r, "a:2", content(newIndex)), p.put(r, "a:1", content(newSingle)), errBroken)
		})
		if !errors.Is(err, errBroken) || len(report.Undone) != 2 {
			t.Errorf("got %v, %v", report.Undone, err)
		}
		p.want(tags{"a:1": &oldIndex, "a:2": nil})
	})
}

// A deleted tag comes back, with its bytes.
func TestRemovedTagComesBack(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		_, err := p.publisher().do(t.Context(), "tag remove", func(ctx context.Context, r *run, _ *Report) error {
			from, err := r.snapshot(ctx, p.ref("a:1"))
			return errors.Join(err, r.remove(ctx, p.ref("a:1"), from), errBroken)
		})
		if !errors.Is(err, errBroken) || errors.Is(err, ErrUndoIncomplete) {
			t.Error(err)
		}
		p.want(tags{"a:1": &oldIndex})
	})
}

// A list that the registry doesn't take back, because its entries are gone, is said
// to have failed; the rest is restored.
func TestListWithoutItsEntriesIsNotTakenBack(t *testing.T) {
	p := plainStage(t)
	before := p.fill()
	lost := oldIndex.Children[1].Desc.Digest
	report, err := p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
		err := p.move(errBroken)(ctx, r, report)
		p.shut(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, string(lost)):
				status(404, "MANIFEST_UNKNOWN")(w, r, nil)
			case r.Method == "PUT" && strings.HasSuffix(r.URL.Path, "/repo1/manifests/1"):
				status(400, "MANIFEST_INVALID")(w, r, nil)
			default:
				return false
			}
			return true
		})
		return err
	})
	if !errors.Is(err, ErrUndoIncomplete) {
		t.Errorf("got %v", err)
	}
	last := report.Undone[len(report.Undone)-1]
	if last.Status != Failed || !strings.Contains(last.Error, string(lost)) || report.Totals[RolledBack] != 3 {
		t.Errorf("got %+v, %v", last, report.Totals)
	}
	delete(before, "repo1:1")
	p.want(before)
}

// A limit of time leaves what it cuts off to the journal.
func TestUndoLimit(t *testing.T) {
	p := plainStage(t)
	before := p.fill()
	pub := p.journaled()
	pub.UndoLimit = 1
	report, err := pub.do(t.Context(), "push", p.move(errBroken))
	if !errors.Is(err, ErrUndoIncomplete) || len(report.Undone) != 4 || report.Undone[0].Status != Skipped || report.Totals[Failed] != 4 {
		t.Errorf("got %v, %+v", err, report)
	}
	if _, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{}); err != nil {
		t.Error(err)
	}
	p.want(before)
}

func TestGuardOld(t *testing.T) {
	for _, fails := range []bool{false, true} {
		onStages(t, func(p *stage) {
			before := p.fill()
			pub := p.publisher()
			pub.GuardOld = true
			var name string
			report, err := pub.do(t.Context(), "push", func(ctx context.Context, r *run, report *Report) error {
				err := p.move(nil)(ctx, r, report)
				name = r.name
				p.want(tags{"repo1:rollback-" + name + "-1": &oldIndex, "repo2:rollback-" + name + "-2": &oldList})
				if fails {
					err = errBroken
				}
				return err
			})
			if fails != (err != nil) || fails && len(report.Undone) != 6 {
				t.Errorf("got %v, %v", err, report.Undone)
			}
			p.want(tags{"repo1:rollback-" + name + "-1": nil, "repo2:rollback-" + name + "-2": nil})
			if fails {
				p.want(before)
			}
		})
	}
}

// A guard that couldn't be written guards nothing: who tries again gets another.
func TestGuardOldIsTriedAgain(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		pub := p.publisher()
		pub.GuardOld = true
		r := begun(t, pub, "push")
		p.shut(on("PUT", "-1", status(403, "DENIED"))) // rollback-RUN-1
		if err := p.put(r, "a:1", content(newIndex)); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("got %v", err)
		}
		p.want(tags{"a:1": &oldIndex})
		if err := p.put(r, "a:1", content(newIndex)); err != nil {
			t.Error(err)
		}
		p.want(tags{"a:1": &newIndex, "a:rollback-" + r.name + "-1": nil, "a:rollback-" + r.name + "-2": &oldIndex})
	})
}

// Quay lets signatures end with the last tag of what they sign. A rollback takes
// the tag alone.
func TestRollbackKeepsSignaturesThatWereThere(t *testing.T) {
	onStages(t, func(p *stage) {
		sig := "a:" + strings.Replace(string(newSingle.Desc.Digest), ":", "-", 1) + ".sig"
		p.push(sig, others)
		p.push("a", newSingle)
		_, err := p.publisher().do(t.Context(), "push", func(ctx context.Context, r *run, _ *Report) error {
			return errors.Join(p.put(r, "a:1", content(newSingle)), errBroken)
		})
		if !errors.Is(err, errBroken) || errors.Is(err, ErrUndoIncomplete) {
			t.Error(err)
		}
		p.want(tags{"a:1": nil, sig: &others})
	})
}

// An expiry that a tag had on its Quay it has again.
func TestRollbackKeepsExpiry(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		p := quayStage(t, true)
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		pub := p.journaled()
		end := inHours(30)
		if _, err := pub.quay(p.host).ChangeExpiration(t.Context(), "org/a", "1", end); err != nil {
			t.Fatal(err)
		}
		report, err := pub.do(t.Context(), "push", func(ctx context.Context, r *run, _ *Report) error {
			from, err := r.snapshot(ctx, p.ref("a:1"))
			if deleted {
				return errors.Join(err, r.remove(ctx, p.ref("a:1"), from), errBroken)
			}
			return errors.Join(err, r.put(ctx, p.ref("a:1"), from, content(newIndex)), errBroken)
		})
		if !errors.Is(err, errBroken) || len(report.Undone) != 1 || len(report.Undone[0].Warnings) > 0 {
			t.Errorf("got %v, %+v", err, report.Undone)
		}
		tag, err := pub.quay(p.host).Tag(t.Context(), "org/a", "1")
		if err != nil || tag.Digest != oldIndex.Desc.Digest || !tag.End.Equal(end) {
			t.Errorf("it is %+v, %v", tag, err)
		}
	}
}

// A repository that the run made stays, its tags go.
func TestRollbackOfANewRepository(t *testing.T) {
	for _, api := range []bool{true, false} {
		p := quayStage(t, api)
		p.push("b:1", oldIndex)
		pub := p.journaled()
		img := imagetest.Index() // a list of nothing: it needs no content
		_, err := pub.do(t.Context(), "push", func(ctx context.Context, r *run, _ *Report) error {
			return errors.Join(p.put(r, "new:1", content(img)), errBroken)
		})
		if !errors.Is(err, errBroken) || errors.Is(err, ErrUndoIncomplete) {
			t.Error(err)
		}
		if report, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{}); err != nil || report.Totals[Unchanged] != 1 {
			t.Errorf("the second time: %+v, %v", report.Undone, err)
		}
	}
}

// What a rollback put back is not undone again, should somebody make the change anew.
func TestUndoneIsNotUndoneAgain(t *testing.T) {
	p := plainStage(t)
	p.fill()
	pub := p.journaled()
	if _, err := pub.do(t.Context(), "push", p.move(errBroken)); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	p.push("repo1:1", newIndex)
	report, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{})
	if !errors.Is(err, ErrUndoIncomplete) || report.Totals[Conflict] != 1 {
		t.Errorf("got %v, %v", report.Totals, err)
	}
	p.want(tags{"repo1:1": &newIndex})
}

// A successful run can be undone too.
func TestSuccessIsUndone(t *testing.T) {
	p := plainStage(t)
	before := p.fill()
	pub := p.journaled()
	report, err := pub.do(t.Context(), "push", p.move(nil))
	if err != nil || report.Totals[Pushed] != 4 || len(report.Undone) > 0 {
		t.Fatalf("got %+v, %v", report, err)
	}
	if _, err := p.publisher().Undo(t.Context(), pub.Journal, UndoOptions{}); err != nil {
		t.Error(err)
	}
	p.want(before)
}

func TestUndoOfNoJournal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := plainStage(t)
	if _, err := p.publisher().Undo(t.Context(), filepath.Join(dir, "x"), UndoOptions{}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := p.publisher().Undo(t.Context(), filepath.Join(dir, "y"), UndoOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("it left %v, %v", files, err)
	}
	if len(p.log()) > 0 {
		t.Error("it asked the registry")
	}
}

// A dry run writes nothing, whatever its verb does.
func TestDryRunWritesNothing(t *testing.T) {
	p := plainStage(t)
	before := p.fill()
	pub := p.journaled()
	pub.DryRun = true
	if _, err := pub.do(t.Context(), "push", p.move(nil)); !errors.Is(err, errDry) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(pub.Journal); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal: %v", err)
	}
	p.want(before)
}
