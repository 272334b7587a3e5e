package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/oci"
)

// UntagOptions are those of [Publisher.Untag].
type UntagOptions struct {
	// RemoveLast allows that images lose their last tag.
	RemoveLast bool
	// IgnoreMissing takes tags that aren't there for done.
	IgnoreMissing bool
}

// Untag takes tags away, and with the last tag of an image the tags of its
// signatures, attestations and SBOMs, and of what is about those.
//
// All repositories are looked at as a whole before anything is deleted in any of
// them, and nothing is deleted in any where
//
//   - a reference isn't one by tag, or a repository has two names: the error matches
//     [oci.ErrUsage];
//   - a listing isn't whole, for whatever reason: [oci.ErrIncomplete] and
//     [oci.ErrRefused];
//   - images would be reached by no tag any more, and RemoveLast isn't set:
//     [oci.ErrRefused], and the report's LostDigests and the error name them all;
//   - a tag isn't there, and IgnoreMissing isn't set: [oci.ErrNotFound].
//
// Then tags are deleted one after the other, the companions' last. One that has
// moved meanwhile is left alone, an error ends the work in its repository. What is
// deleted stays so: without a Publisher.Rollback of [Auto] only the journal restores
// it. Manifests are not deleted, but a registry collects what no tag reaches.
func (p *Publisher) Untag(ctx context.Context, refs []oci.Ref, opt UntagOptions) (*Report, error) {
	var groups []group
	at := map[string]int{}
	for _, ref := range distinctRefs(refs) {
		if ref.Digest != "" || ref.Tag == "" {
			return nil, oci.Usage(fmt.Sprintf("%s: write a tag, not a digest: a tag is what is taken away", ref))
		}
		// Under two names each half would count on the other's tags.
		place := registry.Place(ref)
		i, there := at[place]
		switch {
		case there && groups[i].repo.Name() != ref.Name():
			return nil, oci.Usage(fmt.Sprintf("%s and %s are one repository: write one of them", groups[i].repo.Name(), ref.Name()))
		case !there:
			i, at[place] = len(groups), len(groups)
			groups = append(groups, group{repo: oci.Ref{Registry: ref.Registry, Repository: ref.Repository}})
		}
		groups[i].tags = append(groups[i].tags, ref.Tag)
	}
	if len(groups) == 0 {
		return nil, oci.Usage("no reference is given")
	}
	return p.takeAway(ctx, "untag", func(ctx context.Context, r *run) ([]*taking, error) {
		return r.planUntag(ctx, groups, opt)
	})
}

// A group is what is asked for of one repository.
type group struct {
	repo oci.Ref
	tags []string
}

// planUntag looks at everything and decides. The error is why nothing may be
// deleted; what was found out comes with it.
func (r *run) planUntag(ctx context.Context, groups []group, opt UntagOptions) ([]*taking, error) {
	var all []*taking
	var missing, lost []string
	for _, g := range groups {
		t := &taking{repo: g.repo}
		all = append(all, t)
		s, err := r.scan(ctx, g.repo, g.tags)
		if errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrRefused) {
			s, err = newScan(g.repo), nil // then it has none of the tags
		}
		if err != nil {
			return all, err
		}
		for _, tag := range g.tags {
			if _, there := s.tags[tag]; !there {
				t.absent = append(t.absent, tag)
				missing = append(missing, tagged(g.repo, tag))
			}
		}
		m := newRemoval(s, g.tags)
		if err := r.followReferrers(ctx, s, m); err != nil {
			return all, err
		}
		if len(m.along) > 0 {
			if err := r.confirm(ctx, s); err != nil {
				return all, err
			}
		}
		t.take(s, g.tags, m.along)
		t.lost = m.lost()
		for _, d := range t.lost {
			lost = append(lost, g.repo.Name()+"@"+string(d))
		}
	}
	var errs []error
	if len(missing) > 0 && !opt.IgnoreMissing {
		errs = append(errs, fmt.Errorf("%w: %s; nothing was deleted (--ignore-missing passes over what isn't there)", oci.ErrNotFound, strings.Join(missing, ", ")))
	}
	if len(lost) > 0 && !opt.RemoveLast {
		errs = append(errs, oci.Refuse(fmt.Sprintf("no tag would lead to %s any more; nothing was deleted (--remove-last allows it)", strings.Join(lost, ", "))))
	}
	return all, errors.Join(errs...)
}

// A follower asks, wave by wave, who refers to what.
type follower interface {
	follow() []oci.Digest
	refer(subject, referrer oci.Digest)
}

// maxChain bounds companions of companions. The signature of an attestation is at 2.
const maxChain = 16

// followReferrers tells f the referrers of all that it asks for.
func (r *run) followReferrers(ctx context.Context, s *scan, f follower) error {
	at, err := r.dest(s.repo)
	if err != nil {
		return err
	}
	for wave := 0; ; wave++ {
		asked := f.follow()
		if len(asked) == 0 {
			return nil
		}
		if wave == maxChain {
			return notWhole(s.repo, tooMany("companions of companions, one about the other", maxChain))
		}
		referrers, err := s.referrers(ctx, at, asked, r.atOnce())
		switch {
		case ctx.Err() != nil: // before all else, as in scan
			return context.Cause(ctx)
		case err != nil:
			return notWhole(s.repo, err)
		}
		for i, d := range asked {
			for _, referrer := range referrers[i] {
				f.refer(d, referrer)
			}
		}
	}
}

func tagged(repo oci.Ref, tag string) string { return repo.Name() + ":" + tag }
