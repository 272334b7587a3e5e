package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// UndoOptions are those of [Publisher.Undo]. The zero value is ready.
type UndoOptions struct {
	// Force puts back also what somebody else has moved since.
	Force bool
}

// Undo puts back what the run wrote whose journal is at path: tags that it moved
// or deleted get the bytes that they had, tags that it made are deleted; in the
// reverse order of its writes, with Dest's credentials. What somebody else has moved
// since is left alone and reported as [Conflict]. It goes on after errors, and may
// be repeated: what is as it was isn't touched. A dry run says what would be done.
//
// The report's Undone has each tag. The error matches [ErrUndoIncomplete] if not all
// tags are as they were, [oci.ErrInvalid] if the journal isn't one, and
// [oci.ErrRefused] if its run is still at work.
func (p *Publisher) Undo(ctx context.Context, path string, opt UndoOptions) (*Report, error) {
	r := p.newRun("rollback")
	report := &Report{}
	r.head(report)
	report.Journal = path
	err := r.undoFile(ctx, path, opt, report)
	report.Ended, report.Interrupted = time.Now().UTC(), ctx.Err() != nil
	report.Totals = totals(report.Undone)
	if report.Interrupted && err != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		report.Error = err.Error()
	}
	return report, err
}

func (r *run) undoFile(ctx context.Context, path string, opt UndoOptions, report *Report) error {
	open := journal.Look
	if !r.p.DryRun {
		open = journal.Open
		lock, err := lockJournal(path)
		if err != nil {
			return err
		}
		defer lock.Release()
	}
	j, err := open(path)
	if err != nil {
		return err
	}
	report.Run = j.Header().Run
	var left int
	report.Undone, left = r.undo(ctx, j, undoing{force: opt.Force})
	if r.p.DryRun {
		return j.Close()
	}
	status, err := endUndone, error(nil)
	if left > 0 {
		status, err = endIncomplete, incomplete(report.Undone, left)
	}
	return errors.Join(err, j.End(status), j.Close())
}

// Journaled gives the tags that the run wrote whose journal is at path, or meant
// to: those that [Publisher.Undo] will speak of. Errors match [oci.ErrInvalid] if it
// is no journal.
func Journaled(path string) ([]oci.Ref, error) {
	j, err := journal.Look(path)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	var refs []oci.Ref
	for _, t := range j.Written() {
		refs = append(refs, t.Ref)
	}
	return refs, nil
}

// lockJournal keeps others from the journal at path, which must be there. The error
// matches [oci.ErrRefused] if somebody has it.
func lockJournal(path string) (*lockfile.Lock, error) {
	real, err := filepath.EvalSymlinks(path) // the lock is the file's, whatever it is called
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	dir, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	lock, err := lockfile.Try(dir, filepath.Base(real))
	if err == nil && lock == nil {
		err = oci.Refuse(fmt.Sprintf("the journal %s is in use: its run, or a rollback of it, is still at work", path))
	}
	return lock, err
}
