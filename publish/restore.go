package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// RestoreOptions say what a tag is to mean again. The zero value is what it meant
// before it came to mean what it does, or before it was deleted.
type RestoreOptions struct {
	// AsOf is what it meant at that time; the server's clock counts, in seconds.
	AsOf time.Time
	// Digest is that. It needn't have been the tag's.
	Digest oci.Digest
}

// Restore lets the tag ref mean again what it meant, also if it was deleted. On a
// Quay whose API token Dest has that is the time machine's work, which knows
// manifests that no tag leads to. Elsewhere, and without a token, the manifest must
// still be there under its digest; where there is no history, Digest has to be set.
//
// Errors match [oci.ErrUsage] for options that exclude each other,
// [oci.ErrNotFound] if the tag meant nothing then, or the manifest is gone: the text
// says how far the time machine reaches. Those of [Publisher.History] are as there.
func (p *Publisher) Restore(ctx context.Context, ref oci.Ref, opt RestoreOptions) (*Report, error) {
	switch {
	case ref.Tag == "" || ref.Digest != "":
		return nil, oci.Usage(fmt.Sprintf("%s: only a tag is restored; write host/repository:tag, and --digest for what it shall be", ref))
	case opt.Digest != "" && !opt.AsOf.IsZero():
		return nil, oci.Usage("restore takes a time or a digest, not both")
	case opt.AsOf.After(time.Now()):
		return nil, oci.Usage(fmt.Sprintf("what a tag will mean at %s can't be restored", stamp(opt.AsOf)))
	}
	if opt.Digest != "" {
		if err := oci.ValidDigest(opt.Digest); err != nil {
			return nil, oci.Usage(err.Error())
		}
	}
	return p.do(ctx, "restore", func(ctx context.Context, r *run, report *Report) error {
		r.expect(1)
		change, err := r.restore(ctx, ref, opt)
		r.changed(0, ref, change)
		report.Items = append(report.Items, ItemReport{Source: ref.Tagged(), Changes: []Change{change}})
		return oci.Wrap(err, "restore", ref.Tagged(), oci.Descriptor{})
	})
}

// restore does the work. If somebody moves the tag meanwhile it looks again.
func (r *run) restore(ctx context.Context, ref oci.Ref, opt RestoreOptions) (Change, error) {
	change := Change{Reference: ref.Tagged(), Status: Failed}
	for {
		err := r.restoreOnce(ctx, ref, opt, &change)
		if err == nil {
			return change, nil
		}
		if !errors.Is(err, oci.ErrMoved) || change.Attempts > recomputed {
			change.Error = err.Error()
			return change, err
		}
	}
}

func (r *run) restoreOnce(ctx context.Context, ref oci.Ref, opt RestoreOptions, change *Change) error {
	// What only reads comes first: to prove that a tag is absent may create its
	// repository.
	var entries []quay.Tag
	var to Content
	var err error
	switch api := r.p.quay(ref.Registry); {
	case opt.Digest == "":
		entries, err = r.p.history(ctx, ref)
	case api == nil:
		to, err = r.restorable(ctx, ref, opt.Digest)
	}
	if errors.Is(err, oci.ErrUnsupported) {
		err = fmt.Errorf("%w; --digest restores what the registry still has", err)
	}
	if err != nil {
		return err
	}
	now, err := r.snapshot(ctx, ref)
	if err != nil {
		return err
	}
	change.Old, change.New = now.digest(), opt.Digest
	if opt.Digest == "" {
		if change.New, err = meant(entries, now.digest(), opt.AsOf); err != nil {
			return r.p.withWindow(ctx, ref, err)
		}
	}
	switch {
	case change.New == change.Old:
		change.Status = Unchanged
		return nil
	case r.p.DryRun:
		change.Status = Planned
		return nil
	}
	change.Attempts++
	if err := r.restoreTo(ctx, ref, now, change.New, to); err != nil {
		return err
	}
	change.Status = Restored
	return nil
}

// restoreTo lets ref mean d, by Quay's time machine if we may use it. to is d's
// content if it is known.
func (r *run) restoreTo(ctx context.Context, ref oci.Ref, now state, d oci.Digest, to Content) error {
	if c := r.p.quay(ref.Registry); c != nil {
		err := r.write(ctx, ref, now, d, func(ctx context.Context) error {
			return c.RestoreTag(ctx, ref.Repository, ref.Tag, d)
		})
		if errors.Is(err, oci.ErrNotFound) {
			err = r.p.withWindow(ctx, ref, err)
		}
		return err
	}
	if to.Raw == nil {
		var err error
		if to, err = r.restorable(ctx, ref, d); err != nil {
			return err
		}
	}
	return r.put(ctx, ref, now, to)
}

// restorable reads the manifest d of ref's repository.
func (r *run) restorable(ctx context.Context, ref oci.Ref, d oci.Digest) (Content, error) {
	repo, err := r.dest(ref)
	if err != nil {
		return Content{}, err
	}
	desc, raw, err := repo.Resolve(ctx, string(d))
	if errors.Is(err, oci.ErrNotFound) {
		err = fmt.Errorf("%w (a registry gives only what it still has; where it is a Quay, its time machine may have more: that needs an API token)", err)
	}
	return Content{Desc: desc, Raw: raw}, err
}

// meant finds in entries, newest first, what the tag meant at asOf; or if that is
// zero, what it meant last, beside what it means now, which may be nothing.
func meant(entries []quay.Tag, now oci.Digest, asOf time.Time) (oci.Digest, error) {
	if len(entries) == 0 {
		return "", fmt.Errorf("%w: Quay knows nothing of the tag", oci.ErrNotFound)
	}
	if asOf.IsZero() {
		for _, e := range entries {
			if e.Digest != now {
				return e.Digest, nil
			}
		}
		return "", fmt.Errorf("%w: since %s the tag meant nothing else", oci.ErrNotFound, stamp(entries[len(entries)-1].Start))
	}
	for _, e := range entries {
		switch {
		case e.Start.After(asOf):
		case e.End.IsZero() || e.End.After(asOf):
			return e.Digest, nil
		default:
			return "", fmt.Errorf("%w: at %s there was no such tag: it had ended at %s, and was %s until then", oci.ErrNotFound, stamp(asOf), stamp(e.End), e.Digest)
		}
	}
	return "", fmt.Errorf("%w: the oldest that is known of the tag begins at %s", oci.ErrNotFound, stamp(entries[len(entries)-1].Start))
}

// withWindow adds to err how long the repository keeps what has ended.
func (p *Publisher) withWindow(ctx context.Context, ref oci.Ref, err error) error {
	d, asking := p.reader(ref.Registry).Repository(ctx, ref.Repository)
	if asking != nil || d.Restorable <= 0 {
		return err // it stands without
	}
	return fmt.Errorf("%w (the time machine keeps what has ended for %s, since %s)", err, span(d.Restorable), stamp(time.Now().Add(-d.Restorable)))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span writes whole days as such.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "a day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
