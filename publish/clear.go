package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/fnmatch"
	"github.com/quaymaster/quaymaster/oci"
)

// ClearOptions are those of [Publisher.Clear].
type ClearOptions struct {
	// KeepTags are shell globs (*, ?, [a-z]) of tags that stay, with the companions
	// of all that they reach. None keeps nothing.
	KeepTags []string
}

// Clear takes all tags away from repos, but those that are to be kept. The
// repositories stay.
//
// All are looked at before anything is deleted in any; a listing that isn't whole
// keeps all of them as they are, with an error matching [oci.ErrIncomplete] and
// [oci.ErrRefused]. A repository that isn't there is an error, but for itself only:
// the others are cleared. So it is with one where deleting fails. Without
// Publisher.Yes the error matches [oci.ErrRefused], unless it is a dry run.
//
// What is said of [Publisher.Untag] on rollback, and on tags that move meanwhile,
// holds here too. The report's LostDigests leave out referrers that have no tag.
func (p *Publisher) Clear(ctx context.Context, repos []oci.Ref, opt ClearOptions) (*Report, error) {
	repos, err := p.agreedTo("repo clear", repos)
	if err != nil {
		return nil, err
	}
	if slices.Contains(opt.KeepTags, "") {
		return nil, oci.Usage("a pattern of tags to keep is empty")
	}
	return p.takeAway(ctx, "clear", func(ctx context.Context, r *run) ([]*taking, error) {
		all := make([]*taking, len(repos))
		for i, repo := range repos {
			all[i] = &taking{repo: repo}
			err := r.planClear(ctx, all[i], opt.KeepTags)
			if errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrRefused) {
				all[i].failed, err = err, nil
			}
			if err != nil {
				return all[:i+1], err
			}
		}
		return all, nil
	})
}

// agreedTo gives repos, each once. It returns an error matching [oci.ErrUsage] where
// one is no repository, and [oci.ErrRefused] where nobody has agreed to verb.
func (p *Publisher) agreedTo(verb string, repos []oci.Ref) ([]oci.Ref, error) {
	if len(repos) == 0 {
		return nil, oci.Usage("no repository is given")
	}
	for _, repo := range repos {
		if repo.Tag != "" || repo.Digest != "" || !oci.ValidHost(repo.Registry) || !oci.ValidRepository(repo.Repository) {
			return nil, oci.Usage(fmt.Sprintf("%q is no repository; write host/repository, without a tag", repo))
		}
	}
	if !p.Yes && !p.DryRun {
		return nil, oci.Refuse(fmt.Sprintf("%s deletes all that is in a repository, and nobody has agreed to that (--yes)", verb))
	}
	return distinctRefs(repos), nil
}

func (r *run) planClear(ctx context.Context, t *taking, globs []string) error {
	s, err := r.scan(ctx, t.repo, nil)
	if err != nil {
		return err
	}
	k := newKeeping(s)
	for _, glob := range globs {
		found := false
		for tag := range s.tags {
			if fnmatch.Match(glob, tag) {
				k.keep(tag)
				found = true
			}
		}
		if !found && len(s.tags) > 0 { // a slip of the pen would delete what it was to keep
			r.p.warn(fmt.Sprintf("%s: no tag matches %q, which keeps nothing there", t.repo.Name(), glob))
		}
	}
	if err := r.followReferrers(ctx, s, k); err != nil {
		return err
	}
	t.clear(s, k.tags)
	// What isn't known to be kept can't keep its companions.
	if len(globs) > 0 && slices.ContainsFunc(t.tags, func(tag takenTag) bool { return tag.kind != "" }) {
		return r.confirm(ctx, s)
	}
	return nil
}

// clear enters all tags of s but kept, and what is lost without them.
func (t *taking) clear(s *scan, kept map[string]bool) {
	var all []string
	for tag := range s.tags {
		if kept[tag] {
			t.kept = append(t.kept, tag)
		} else {
			all = append(all, tag)
		}
	}
	slices.Sort(t.kept)
	slices.Sort(all)
	var own []string
	var along []companionTag
	for _, tag := range all {
		if kind := kindOf(tag); kind != "" {
			along = append(along, companionTag{tag, kind})
		} else {
			own = append(own, tag)
		}
	}
	t.take(s, own, along)
	t.lost = newRemoval(s, all).lost()
}

// kindOf tells what a companion's tag holds, "" if it isn't one.
func kindOf(tag string) companion.Kind {
	if _, kind, ok := companion.ParseTag(tag); ok {
		return kind
	}
	if isReferrersTag(tag) {
		return companion.Referrer
	}
	return ""
}
