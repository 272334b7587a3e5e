package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

// What a journal says at its end.
const (
	endDone       = "done"
	endFailed     = "failed"      // and what was changed stays
	endUndone     = "rolled-back" // all of it
	endIncomplete = "incomplete"  // not all of it
)

// defaultUndoLimit bounds an automatic rollback.
const defaultUndoLimit = 5 * time.Minute

// head fills in what is known of the run when it begins.
func (r *run) head(report *Report) {
	report.Version, report.Tool, report.Command, report.Run = ReportVersion, r.p.Tool, r.command, r.name
	report.Started, report.DryRun = r.started, r.p.DryRun
	if r.journal != nil {
		report.Journal = r.journal.Path()
	}
	if report.Items == nil {
		report.Items = []ItemReport{}
	}
}

// keeps are the verbs whose changes stay where others failed, unless it is asked
// otherwise: what they delete was to be deleted.
var keeps = []string{"untag", "clear", "remove", "restore"}

func (r *run) policy() Policy {
	switch {
	case r.p.Rollback != "":
		return r.p.Rollback
	case slices.Contains(keeps, r.command):
		return Never
	}
	return Auto
}

// end ends the run, and completes its report. If failed isn't nil, or ctx has ended,
// what the run changed is put back, by its Publisher's policy and scope, with a
// context of its own; the report then says so of each change. It returns what the
// verb returns: failed, or the cause of ctx's end, and an error that matches
// [ErrUndoIncomplete] as well if not all could be put back.
func (r *run) end(ctx context.Context, report *Report, failed error) error {
	r.head(report)
	if report.Interrupted = ctx.Err() != nil; report.Interrupted {
		switch cause := context.Cause(ctx); {
		case failed == nil:
			failed = cause
		case !errors.Is(failed, cause):
			failed = fmt.Errorf("%w: %w", cause, failed)
		}
	}
	status := endDone
	if failed != nil {
		status = endFailed
	}
	if r.journal != nil {
		all, done := r.journal.Intents()
		if failed != nil && all > 0 && r.policy() == Auto {
			status, failed = r.takeBack(ctx, report, failed)
		}
		if done > 0 && errors.Is(failed, oci.ErrRefused) {
			failed = &changedError{failed}
		}
		r.dropGuards(ctx, report, failed)
		if err := errors.Join(r.journal.End(status), r.journal.Close()); err != nil {
			r.p.warn(err.Error())
		}
		if r.lock != nil {
			_ = r.lock.Release() // the file is closed with it, whatever it says
		}
	}
	settle(report, failed)
	report.Ended = time.Now().UTC()
	return failed
}

// A changedError is a refusal after something had been changed, so it is none.
type changedError struct{ err error }

func (e *changedError) Error() string { return e.err.Error() }

// Is matches what the refusal does, apart from its being one.
func (e *changedError) Is(target error) bool {
	return target != oci.ErrRefused && errors.Is(e.err, target)
}

// takeBack undoes the run, and returns how its journal ends and what its verb returns.
func (r *run) takeBack(ctx context.Context, report *Report, failed error) (string, error) {
	if r.p.Undoing != nil {
		defer r.p.Undoing()()
	}
	limit := r.p.UndoLimit
	if limit <= 0 {
		limit = defaultUndoLimit
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("the rollback has taken %s", limit))
	defer cancel()
	u := undoing{}
	if r.p.Scope == OneItem {
		if stay := r.succeeded(report); len(stay) > 0 {
			u.only = func(t journal.Tag) bool { return !stay[t.Ref.Tagged()] }
		}
	}
	changes, left := r.undo(ctx, r.journal, u)
	report.Undone = changes
	if left > 0 {
		return endIncomplete, fmt.Errorf("%w; %w", failed, incomplete(changes, left))
	}
	return endUndone, failed
}

// succeeded gives the tags of items that are done, and of nothing that isn't, apart
// from guard tags: items may share one.
func (r *run) succeeded(report *Report) map[string]bool {
	stay, leave := map[string]bool{}, map[string]bool{}
	for _, item := range report.Items {
		ok := item.Error == ""
		for _, c := range item.Changes {
			ok = ok && c.Error == "" && c.Status != "" && c.Status != Failed && c.Status != Skipped && c.Status != Conflict
		}
		for _, c := range item.Changes {
			if ok {
				stay[c.Reference] = true
			} else if c.Companion != "guard" {
				leave[c.Reference] = true
			}
		}
	}
	for ref := range leave {
		delete(stay, ref)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, g := range r.guards { // they go by themselves
		if stay[ref] {
			stay[g.ref.Tagged()] = true
		}
	}
	return stay
}

// dropGuards deletes the tags of [Publisher.GuardOld] of what stays as it is now.
// After a failure that wasn't taken back they stay too: they are what can be.
func (r *run) dropGuards(ctx context.Context, report *Report, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.guards) == 0 {
		return
	}
	undone := map[string]bool{}
	for _, c := range report.Undone {
		undone[c.Reference] = true
	}
	if failed != nil && len(undone) == 0 {
		r.p.warn(fmt.Sprintf("%d tags named rollback-%s-… keep what the changed tags meant", len(r.guards), r.name))
		return
	}
	guards := r.guards
	r.guards = map[string]guarded{}
	r.mu.Unlock()
	defer r.mu.Lock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultUndoLimit)
	defer cancel()
	for _, g := range guards {
		if undone[g.ref.Tagged()] {
			continue
		}
		if err := r.remove(ctx, g.ref, g.kept); err != nil {
			r.p.warn(fmt.Sprintf("%s is left behind: %v", g.ref.Tagged(), err))
		}
	}
}

// settle gives each change of the report its last status, and counts them.
func settle(report *Report, failed error) {
	undone := map[string]Change{}
	for _, c := range report.Undone {
		undone[c.Reference] = c
	}
	var all []Change
	for i := range report.Items {
		item := &report.Items[i]
		if item.Changes == nil {
			item.Changes = []Change{}
		}
		for k := range item.Changes {
			c := &item.Changes[k]
			u, touched := undone[c.Reference]
			switch {
			case c.Status == "" && report.DryRun:
				c.Status = Planned
			case c.Status == "" && failed != nil:
				c.Status = Skipped
			case !touched:
			case u.Status == Restored, u.Status == Deleted, u.Status == Unchanged && c.Status != Failed && c.Status != Skipped:
				c.Status = RolledBack
			case u.Status == Conflict:
				c.Status = Conflict
			case u.Status == Failed, u.Status == Skipped:
				c.Status = Failed
			}
			if touched && u.Error != "" && c.Error == "" {
				c.Error = u.Error
			}
		}
		all = append(all, item.Changes...)
	}
	report.Totals = totals(all)
	if failed != nil && report.Error == "" {
		report.Error = failed.Error()
	}
}

// totals counts tags by status.
func totals(changes []Change) map[Status]int {
	n := map[Status]int{}
	for _, c := range changes {
		n[c.Status]++
	}
	return n
}
