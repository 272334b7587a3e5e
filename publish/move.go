package publish

import (
	"context"
	"errors"

	"github.com/quaymaster/quaymaster/oci"
)

// recomputed is how often it is decided anew what a tag shall mean, because
// somebody else moved it meanwhile.
const recomputed = 3

// An aim is what a tag is to mean. The zero value is no tag.
type aim struct {
	Content
	Status    Status // that it has then: Pushed or Merged
	Platforms []Platform
	Warnings  []string
	Bytes     int64 // that were read from the source for it
}

// move lets the tag dest mean what decide makes of what it means now, which was
// old when it was looked at. decide brings all the content that the aim needs, but
// for the aim itself; in a dry run it brings nothing. If somebody moves the tag
// meanwhile it is asked again, at most 3 times. What the tag means already is not
// written. It returns what became of the tag, and of what was written along with it,
// the tag last.
//
// The change has the error as well, which matches [oci.ErrMoved] if the tag doesn't
// come to rest.
func (r *run) move(ctx context.Context, dest oci.Ref, old state, guard Guard, decide func(ctx context.Context, old state) (aim, error)) ([]Change, error) {
	var along []Change // guard tags
	change := Change{Reference: dest.Tagged(), Status: Failed, Old: old.digest()}
	fail := func(err error) ([]Change, error) {
		change.Error = err.Error()
		return append(along, change), err
	}
	for {
		to, err := decide(ctx, old)
		change.Old, change.Platforms, change.Warnings = old.digest(), to.Platforms, to.Warnings
		change.Bytes += to.Bytes
		if err != nil {
			return fail(err)
		}
		change.New = to.Desc.Digest
		guarded := false
		if last := len(along) - 1; last >= 0 {
			// Of what it was to mean before somebody moved it.
			if guarded = along[last].New == change.New; !guarded {
				along = append(along[:last], r.unguard(ctx, dest, along[last])...)
			}
		}
		switch {
		case change.New == change.Old:
			if change.Status = Unchanged; old.Absent {
				change.Status = Absent
			}
			return append(along, change), nil
		case r.p.DryRun:
			if guard.Template != "" && change.New != "" {
				kept, err := r.planGuard(ctx, dest, to.Content, guard)
				if err != nil {
					return fail(err)
				}
				along = append(along, kept)
			}
			change.Status = Planned
			return append(along, change), nil
		}
		if guard.Template != "" && change.New != "" && !guarded {
			// Before the tag itself: from its first moment on something else keeps
			// what it means, wherever it goes next.
			kept, err := r.guard(ctx, dest, to.Content, guard)
			along = append(along, kept)
			if err != nil {
				return fail(err)
			}
		}
		change.Attempts++
		if change.New == "" {
			to.Status, err = Deleted, r.remove(ctx, dest, old)
		} else {
			err = r.put(ctx, dest, old, to.Content)
		}
		switch {
		case err == nil:
			change.Status = to.Status
			return append(along, change), nil
		case !errors.Is(err, oci.ErrMoved) || change.Attempts > recomputed:
			return fail(err)
		}
		if old, err = r.snapshot(ctx, dest); err != nil {
			return fail(err)
		}
	}
}
