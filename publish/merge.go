package publish

import (
	"context"
	"errors"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// MergeOptions are those of [Publisher.Merge]. The zero value is ready.
type MergeOptions struct {
	// Select chooses platforms of the source; those it refuses are as if the
	// source lacked them.
	Select Selection
	// StrictOSVersion compares Windows builds by all of os.version, not by the
	// first three components.
	StrictOSVersion bool
	// Type insists on a "docker" list or an "oci" index. "" gives the source's
	// type, and an OCI index where a docker list can't hold an entry that is kept.
	Type string
	// Style is how a list that had to be made anew is written.
	Style index.Style
	// PromoteSingle takes a single image for a list of one. Without it the source,
	// whatever it is, takes the place of a single image, and a single image that
	// of a list, with a warning.
	PromoteSingle bool
	Guard         Guard
	Hooks         Hooks
}

// index gives what package index takes of o.
func (o MergeOptions) index() index.Options {
	return index.Options{Eligible: o.Select.eligible(), StrictOSVersion: o.StrictOSVersion, Type: o.Type, Style: o.Style}
}

// Merge gives the tag dest a list that has all platforms of source, and of what
// the tag means now those that source lacks. Images of source that the repository
// of dest lacks are copied there. Where the list would be the one that is there
// already nothing is written; where it would be source's it has source's bytes.
//
// Source may be a digest, dest must be a tag; else the error matches
// [oci.ErrUsage]. An image that the tag's list names and the repository doesn't
// have is an error matching [oci.ErrNotFound], and nothing is written. If somebody
// else moves the tag meanwhile the list is made anew, at most 3 times; then the
// error matches [oci.ErrMoved]. The report has what becomes of each platform, in a
// dry run as well.
func (p *Publisher) Merge(ctx context.Context, source, dest oci.Ref, opt MergeOptions) (*Report, error) {
	if err := errors.Join(usableTags(source, dest), opt.Guard.check(dest)); err != nil {
		return nil, err
	}
	return p.one(ctx, "merge", source, []oci.Ref{dest}, opt.Hooks, func(ctx context.Context, i *oneItem) error {
		from, err := i.from(ctx, source)
		if err == nil {
			err = opt.refuses(source, from)
		}
		if err != nil {
			return err
		}
		olds, err := i.look(ctx, dest)
		if err != nil {
			return err
		}
		i.report.identify(source, from)
		changes, err := i.move(ctx, dest, olds[0], opt.Guard, func(ctx context.Context, old state) (aim, error) {
			m, err := i.merge(ctx, source, from, old, dest, opt)
			if err != nil {
				return m.aim, err
			}
			along, err := i.companions(ctx, source, m.companions(), dest)
			i.report.Changes = append(i.report.Changes, along...)
			return m.aim, err
		})
		i.report.Changes = append(i.report.Changes, changes...)
		return err
	})
}

// A merged is what [run.merge] made, and what it had to copy for that.
type merged struct {
	aim
	brought
	whole bool // it is the source, byte for byte
}

// companions gives the contents whose companions travel along: of what was copied, and
// then also of the source itself where the tag gets it whole. Where all was there
// before nothing is asked: that has its companions, or was left without on purpose.
func (m merged) companions() []Content {
	if !m.whole || len(m.copied) == 0 {
		return m.copied
	}
	return append([]Content{alone(m.Desc.Digest)}, m.copied...)
}

// merge makes the list that dest is to mean, of source, which is from, and of what
// dest means, which is old; and sees to it that the repository has all that it names,
// which in a dry run it doesn't.
func (r *run) merge(ctx context.Context, source oci.Ref, from Content, old state, dest oci.Ref, opt MergeOptions) (merged, error) {
	m := merged{aim: aim{Status: Merged}}
	src, dst, err := r.lists(ctx, source, from, old, dest, opt, &m.aim)
	if err != nil {
		return m, err
	}
	entries, ours := []oci.Descriptor{from.Desc}, digests([]oci.Descriptor{from.Desc})
	if src == nil {
		m.Content = from
	} else {
		knowing, err := r.knowing(ctx, source, src, dest, dst, opt.index())
		if err != nil {
			return m, err
		}
		if !src.Eligible(knowing) {
			return m, noneChosen(source)
		}
		res, err := index.Merge(src, dst, knowing)
		if err != nil {
			return m, oci.Wrap(err, "merge", source.String(), oci.Descriptor{})
		}
		m.take(res)
		entries, ours = res.Entries, digests(src.Entries)
	}
	if m.whole = m.Desc.Digest == from.Desc.Digest; m.whole {
		m.Status = Pushed
	}
	if m.Desc.Digest == old.digest() {
		return m, nil // nothing will be written, so nothing need be there
	}
	if err := opt.Guard.fits(dest, m.Desc.Digest); err != nil {
		return m, err
	}
	m.brought, err = r.bring(ctx, source, dest, entries, ours)
	m.Bytes = m.bytes
	return m, err
}
