package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

// ErrUndoIncomplete means that a rollback could not put back all that was changed.
var ErrUndoIncomplete = errors.New("the rollback is incomplete")

// undoing says what a rollback does. The zero value undoes everything.
type undoing struct {
	force bool
	only  func(journal.Tag) bool // nil: all
}

// undo puts back what j's run wrote, that written last first; repositories apart
// from each other, several at once. It goes on after errors. It returns what became
// of each tag, and how many are not as they were.
func (r *run) undo(ctx context.Context, j *journal.Journal, u undoing) (changes []Change, left int) {
	r.mu.Lock()
	clear(r.children) // what was there before may be gone
	clear(r.gone)     // and what wasn't may be there
	r.mu.Unlock()
	tags := j.Written()
	if u.only != nil {
		tags = slices.DeleteFunc(tags, func(t journal.Tag) bool { return !u.only(t) })
	}
	changes = make([]Change, len(tags))
	var order []string
	byRepo := map[string][]int{}
	for i, t := range tags {
		if byRepo[t.Ref.Name()] == nil {
			order = append(order, t.Ref.Name())
		}
		byRepo[t.Ref.Name()] = append(byRepo[t.Ref.Name()], i)
	}
	r.events.Lock()
	r.done, r.all = 0, len(tags)
	r.events.Unlock()
	var g errgroup.Group
	g.SetLimit(r.atOnce())
	for _, name := range order {
		g.Go(safely(func() error {
			for _, i := range byRepo[name] {
				changes[i] = r.undoTag(ctx, j, tags[i], u)
				r.changed(-1, tags[i].Ref, changes[i])
			}
			return nil
		}))
	}
	if err := g.Wait(); err != nil {
		panic(err)
	}
	for _, c := range changes {
		if c.Status == Conflict || c.Status == Failed || c.Status == Skipped {
			left++
		}
	}
	return changes, left
}

// undoTag puts one tag back and notes in the journal what became of it.
func (r *run) undoTag(ctx context.Context, j *journal.Journal, t journal.Tag, u undoing) Change {
	c := Change{Reference: t.Ref.Tagged()}
	if ctx.Err() != nil {
		c.Status, c.Error = Skipped, "there was no time left: "+context.Cause(ctx).Error()
		return c
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	err := r.putBack(ctx, j, t, u, &c)
	if err != nil {
		c.Status, c.Error = Failed, err.Error()
	}
	outcome := map[Status]journal.Outcome{Restored: journal.Restored, Deleted: journal.Deleted,
		Unchanged: journal.Unchanged, Conflict: journal.Conflict, Failed: journal.Failed}[c.Status]
	if outcome == "" { // it was only looked at
		return c
	}
	if err := j.Undone(c.Reference, outcome); err != nil {
		c.Warnings = append(c.Warnings, err.Error())
	}
	return c
}

// putBack decides what is to be done with t and does it.
func (r *run) putBack(ctx context.Context, j *journal.Journal, t journal.Tag, u undoing, c *Change) error {
	now, err := r.means(ctx, t.Ref)
	if err != nil {
		return err
	}
	c.Old, c.New = now, now
	was := t.Before.Digest
	if now == was {
		if c.Status = Unchanged; t.Open && j != r.journal && j.Status() == "" {
			c.Warnings = append(c.Warnings, "it isn't known whether the registry took what was sent; if that takes effect yet, the rollback has to be repeated")
		}
		return nil
	}
	// What this journal's rollback put back, and is something else now, somebody
	// has moved since, even if it is to what the run wrote.
	settled := t.Outcome == journal.Restored || t.Outcome == journal.Deleted
	ours := now == "" && t.Deleted || slices.Contains(t.Wrote, now)
	switch {
	case !u.force && (settled || !ours):
		c.Status = Conflict
		c.Error = fmt.Sprintf("somebody else moved it: it means %s now, and meant %s before the run", orNothing(now), orNothing(was))
		return nil
	case r.p.DryRun:
		c.Status, c.New = Planned, was
		return nil
	case t.Before.Absent:
		if err := r.takeAway(ctx, t.Ref, now); err != nil {
			return err
		}
		c.Status, c.New = Deleted, ""
		return nil
	}
	if err := r.giveBack(ctx, j, t, c); err != nil {
		return err
	}
	c.Status, c.New = Restored, was
	return nil
}

// means asks what ref means. That it means nothing is proved, as by a snapshot.
func (r *run) means(ctx context.Context, ref oci.Ref) (oci.Digest, error) {
	now, _, err := r.now(ctx, ref, false)
	if err != nil || now != "" {
		return now, err
	}
	s, known, err := r.ask(ctx, ref)
	if err == nil && !known {
		err = unproved(ref, oci.ErrDenied)
	}
	return s.digest(), err
}

// giveBack lets t mean what it meant, byte for byte.
func (r *run) giveBack(ctx context.Context, j *journal.Journal, t journal.Tag, c *Change) error {
	was := Content{Desc: oci.Descriptor{MediaType: t.Before.MediaType, Digest: t.Before.Digest}}
	var err error
	if was.Raw, err = j.Content(t.Before.Digest); err != nil {
		return err
	}
	if t.Before.Partial {
		c.Warnings = append(c.Warnings, "its list named what wasn't there before the run either")
	}
	repo, err := r.dest(t.Ref)
	if err != nil {
		return err
	}
	_, putErr := repo.Put(ctx, t.Ref.Tag, was.Desc.MediaType, was.Raw)
	after, _, err := r.now(ctx, t.Ref, false)
	switch {
	case err == nil && after == was.Desc.Digest:
	case putErr != nil:
		return r.explain(ctx, t.Ref, was, putErr)
	case err != nil:
		return err
	default:
		return fmt.Errorf("%w: the registry took %s back, and the tag means %s", oci.ErrDigestMismatch, was.Desc.Digest, orNothing(after))
	}
	if oci.IsIndexType(was.Desc.MediaType) {
		lost, err := r.lostChildren(ctx, t.Ref, was)
		if err == nil && len(lost) > 0 {
			err = fmt.Errorf("its list names %s, which isn't there any more", lost[0])
		}
		if err != nil {
			c.Warnings = append(c.Warnings, err.Error())
		}
	}
	c.Warnings = append(c.Warnings, r.expireAgain(ctx, t)...)
	return nil
}

// explain says what a registry may mean that refuses the list c.
func (r *run) explain(ctx context.Context, ref oci.Ref, c Content, refused error) error {
	if !oci.IsIndexType(c.Desc.MediaType) {
		return refused
	}
	if lost, err := r.lostChildren(ctx, ref, c); err == nil && len(lost) > 0 {
		return fmt.Errorf("its list names %s, which isn't there any more: %w", lost[0], refused)
	}
	return refused
}

// expireAgain gives t the expiry that it had on its Quay, and returns warnings.
func (r *run) expireAgain(ctx context.Context, t journal.Tag) []string {
	client := r.p.quay(t.Ref.Registry)
	if t.Before.Expires.IsZero() {
		return nil
	}
	at := t.Before.Expires.UTC().Format("2006-01-02T15:04:05Z")
	if client == nil {
		return []string{"it expired at " + at + ", which takes a token of Quay's API to set again"}
	}
	got, err := client.ChangeExpiration(ctx, t.Ref.Repository, t.Ref.Tag, t.Before.Expires)
	switch {
	case err != nil:
		return []string{"it expired at " + at + ", and doesn't any more: " + err.Error()}
	case !got.Equal(t.Before.Expires):
		return []string{"it expired at " + at + ", and Quay makes that " + got.UTC().Format("2006-01-02T15:04:05Z")}
	}
	return nil
}

// takeAway deletes the tag ref, which means d, and nothing else, never by d. Quay
// lets the signatures of a digest that has no other tag end with it: what was there
// of them is put back, since it may be older than the run.
func (r *run) takeAway(ctx context.Context, ref oci.Ref, d oci.Digest) error {
	repo, err := r.dest(ref)
	if err != nil {
		return err
	}
	var beside []oci.Ref
	var were []Content
	for _, tag := range companion.Tags(d) {
		desc, raw, err := repo.Resolve(ctx, tag)
		if err == nil {
			beside = append(beside, oci.Ref{Registry: ref.Registry, Repository: ref.Repository, Tag: tag})
			were = append(were, Content{desc, raw})
		} else if !errors.Is(err, oci.ErrNotFound) {
			return err
		}
	}
	delErr := r.deleteTag(ctx, ref)
	after, _, err := r.now(ctx, ref, false)
	switch {
	case err == nil && after == "":
	case delErr != nil:
		return delErr
	case err != nil:
		return err
	default:
		return fmt.Errorf("the registry agreed to delete it, and it still means %s", after)
	}
	for i, b := range beside {
		if now, _, err := r.now(ctx, b, false); err != nil || now != "" {
			continue // it is there, or nobody can tell
		}
		if _, err := repo.Put(ctx, b.Tag, were[i].Desc.MediaType, were[i].Raw); err != nil {
			return fmt.Errorf("%s went with it: %w", b.Tagged(), err)
		}
	}
	return nil
}

// incomplete is the error of a rollback that left tags as they are.
func incomplete(changes []Change, left int) error {
	var first []string
	for _, c := range changes {
		if c.Status == Conflict || c.Status == Failed || c.Status == Skipped {
			first = append(first, c.Reference)
		}
	}
	more := ""
	if len(first) > 3 {
		first, more = first[:3], ", …"
	}
	return fmt.Errorf("%w: %d of %d tags are not as they were: %s%s", ErrUndoIncomplete, left, len(changes), strings.Join(first, ", "), more)
}
