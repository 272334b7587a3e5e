package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// A taking is what is taken away from one repository.
type taking struct {
	repo   oci.Ref
	tags   []takenTag   // those asked for, by name, then their companions, by name
	absent []string     // asked for and not there
	kept   []string     // of clear
	lost   []oci.Digest // what no tag reaches then
	failed error        // why nothing is taken from it, where that is no reason to stop

	goes map[string]bool // the tags
	// went are those of them that the registry took away with another, with an error
	// where that isn't sure.
	went map[string]error
}

// A takenTag is one tag that goes.
type takenTag struct {
	tag    string
	digest oci.Digest // what it was found to mean
	kind   companion.Kind
	from   state // what it was seen to mean last, without the bytes
	// siblings are cosign's tags about digest that a Quay takes away with this one,
	// since no tag that stays means digest.
	siblings []string
}

// tag names a tag of the repository.
func (t *taking) tag(name string) oci.Ref {
	ref := t.repo
	ref.Tag = name
	return ref
}

// take enters tags, as far as s has them, and behind them the companions' along.
func (t *taking) take(s *scan, tags []string, along []companionTag) {
	var own, others []takenTag
	for _, tag := range tags {
		if d, there := s.tags[tag]; there {
			own = append(own, takenTag{tag: tag, digest: d})
		}
	}
	for _, c := range along {
		others = append(others, takenTag{tag: c.tag, digest: s.tags[c.tag], kind: c.kind})
	}
	byName := func(a, b takenTag) int { return strings.Compare(a.tag, b.tag) }
	slices.SortFunc(own, byName)
	slices.SortFunc(others, byName)
	t.tags = append(own, others...)
	t.goes, t.went = make(map[string]bool, len(t.tags)), map[string]error{}
	for _, tag := range t.tags {
		t.goes[tag.tag] = true
	}
	stays := make(map[oci.Digest]bool)
	for tag, d := range s.tags {
		stays[d] = stays[d] || !t.goes[tag]
	}
	for i := range t.tags {
		tag := &t.tags[i]
		if stays[tag.digest] {
			continue
		}
		for _, name := range companion.Tags(tag.digest) {
			if _, there := s.tags[name]; there {
				tag.siblings = append(tag.siblings, name)
			}
		}
	}
}

// takeAway is a run that deletes tags: plan looks at everything and decides, then
// what the tags mean is kept in the journal, then they go. If a tag was moved since
// plan looked, that is done anew, at most 3 times.
func (p *Publisher) takeAway(ctx context.Context, command string, plan func(context.Context, *run) ([]*taking, error)) (*Report, error) {
	byDigest := p.AllowDigestDelete
	q := *p
	q.AllowDigestDelete = false // that is decided here, where it is known what else goes
	p = &q
	return p.do(ctx, command, func(ctx context.Context, r *run, report *Report) error {
		for attempt := 1; ; attempt++ {
			all, err := plan(ctx, r)
			report.Items = planned(all, Skipped)
			if err != nil {
				return err
			}
			if p.DryRun {
				report.Items = planned(all, Planned)
				return failures(all)
			}
			err = r.keepAll(ctx, all)
			switch {
			case err == nil:
				return errors.Join(r.deleteAll(ctx, all, report, byDigest), failures(all))
			case errors.Is(err, oci.ErrMoved) && attempt <= recomputed && ctx.Err() == nil:
				continue
			}
			return fmt.Errorf("nothing was deleted: %w", err)
		}
	})
}

// planned gives the report's items before anything is deleted.
func planned(all []*taking, status Status) []ItemReport {
	items := make([]ItemReport, len(all))
	for i, t := range all {
		item := ItemReport{Source: t.repo.Name(), LostDigests: t.lost, Changes: make([]Change, 0, len(t.tags))}
		for _, tag := range t.tags {
			item.Changes = append(item.Changes, Change{Reference: tagged(t.repo, tag.tag), Status: status, Old: tag.digest, Companion: string(tag.kind)})
		}
		for _, tag := range t.absent {
			item.Changes = append(item.Changes, Change{Reference: tagged(t.repo, tag), Status: Absent})
		}
		for _, tag := range t.kept {
			item.Changes = append(item.Changes, Change{Reference: tagged(t.repo, tag), Status: Kept})
		}
		if t.failed != nil {
			item.Error = t.failed.Error()
		}
		items[i] = item
	}
	return items
}

// failures joins why nothing is taken from some repositories.
func failures(all []*taking) error {
	var errs []error
	for _, t := range all {
		errs = append(errs, t.failed)
	}
	return errors.Join(errs...)
}

// keepAll takes the snapshots of all tags that are to go. The error matches
// [oci.ErrMoved] if one doesn't mean any more what it was found to mean.
func (r *run) keepAll(ctx context.Context, all []*taking) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for _, t := range all {
		for i := range t.tags {
			if gctx.Err() != nil {
				break
			}
			tag := &t.tags[i]
			g.Go(safely(func() error {
				ref := t.tag(tag.tag)
				from, err := r.snapshot(gctx, ref)
				if err != nil {
					return err
				}
				if !from.Absent && from.digest() != tag.digest {
					return oci.Wrap(oci.ErrMoved, "delete tag", ref.String(), oci.Descriptor{})
				}
				from.Raw = nil // the journal has it
				tag.from = from
				return nil
			}))
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// deleteAll deletes, one repository after the other, and says so in report.
func (r *run) deleteAll(ctx context.Context, all []*taking, report *Report, byDigest bool) error {
	var errs []error
	sum := 0
	for _, t := range all {
		sum += len(t.tags)
	}
	r.expect(sum)
	for i, t := range all {
		item := &report.Items[i]
		err := r.deleteTags(ctx, t, item.Changes, byDigest, func(tag string, c *Change) {
			r.changed(i, t.tag(tag), *c)
		})
		if err != nil && item.Error == "" {
			item.Error = err.Error()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleteTags deletes the tags of t, one after the other. What was moved meanwhile is
// left alone; any other error ends it. Companions stay unless all that they might
// be about went: what wasn't deleted keeps its signatures.
func (r *run) deleteTags(ctx context.Context, t *taking, changes []Change, byDigest bool, told func(tag string, c *Change)) error {
	var failed error
	d := deleter{run: r, t: t, allowed: byDigest}
	for i, tag := range t.tags {
		c := &changes[i]
		if unsure, went := t.went[tag.tag]; went {
			if c.Status = Deleted; unsure != nil {
				c.Status, c.Error = Failed, unsure.Error()
				failed = cmp.Or(failed, unsure)
			}
			told(tag.tag, c)
			continue
		}
		if failed != nil && (tag.kind != "" || !errors.Is(failed, oci.ErrMoved)) {
			told(tag.tag, c) // as planned: skipped
			continue
		}
		err := context.Cause(ctx)
		if err == nil && !tag.from.Absent {
			c.Attempts++
			err = d.remove(ctx, tag)
		}
		switch {
		case err == nil && tag.from.Absent:
			c.Status = Absent
		case err == nil:
			c.Status = Deleted
		case errors.Is(err, oci.ErrMoved):
			c.Status, c.Error = Conflict, err.Error()
			if failed == nil {
				failed = err
			}
		case ctx.Err() != nil && c.Attempts == 0: // never begun
			failed = err
		default:
			c.Status, c.Error = Failed, err.Error()
			failed = err
		}
		told(tag.tag, c)
	}
	return failed
}

// A deleter deletes tags of one repository, by the tag or by the manifest: which of
// them the registry can the first tag tells.
type deleter struct {
	*run
	t       *taking
	allowed bool // to delete by digest
	digests *digestDelete
}

func (d *deleter) remove(ctx context.Context, tag takenTag) (err error) {
	if d.digests == nil {
		err = d.removeBeside(ctx, d.t.tag(tag.tag), tag.from, tag.siblings, d.t)
		if !d.allowed || !errors.Is(err, oci.ErrUnsupported) {
			return err
		}
		if d.digests, err = d.byDigest(ctx, d.t); err != nil {
			return err
		}
	}
	if err = d.digests.remove(ctx, tag); errors.Is(err, oci.ErrMoved) {
		d.digests = nil // and may need now what nothing needed
	}
	return err
}
