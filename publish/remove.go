package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// Remove deletes repos whole, which only Quay can, by its API and with a token that
// administers them. It can't be taken back: neither a rollback nor Quay's time
// machine has them then. What the tags meant is in the report, and the manifests are
// in the journal.
//
// All are looked at before any is deleted; a listing that isn't whole keeps all of
// them, with an error matching [oci.ErrIncomplete] and [oci.ErrRefused]. One that
// isn't there, or can't be deleted, is an error, but for itself only. Where the host
// is no Quay, or there is no token for it, the error matches [oci.ErrUsage]. Without
// Publisher.Yes it matches [oci.ErrRefused], unless it is a dry run.
func (p *Publisher) Remove(ctx context.Context, repos []oci.Ref) (*Report, error) {
	repos, err := p.agreedTo("repo remove", repos)
	if err != nil {
		return nil, err
	}
	for _, repo := range repos {
		if p.quay(repo.Registry) == nil {
			return nil, oci.Usage(fmt.Sprintf("%s: only Quay deletes repositories, and only with an API token (--quay-api-token, and --quay-host where it isn't quay.io); repo clear takes all tags away from one, anywhere", repo))
		}
	}
	return p.do(ctx, "remove", func(ctx context.Context, r *run, report *Report) error {
		all := make([]*taking, len(repos))
		for i, repo := range repos {
			all[i] = &taking{repo: repo}
			err := r.planRemove(ctx, all[i])
			if err != nil && (errors.Is(err, oci.ErrRefused) || ctx.Err() != nil) {
				report.Items = removals(all[:i+1], Skipped)
				return err
			}
			all[i].failed = err
		}
		report.Items = removals(all, Planned)
		if p.DryRun {
			return failures(all)
		}
		if err := r.keepAll(ctx, sound(all)); err != nil {
			report.Items = removals(all, Skipped)
			return fmt.Errorf("nothing was deleted: %w", err)
		}
		return r.removeAll(ctx, all, report)
	})
}

// planRemove looks whether the repository is there, may be deleted, and what is in it.
func (r *run) planRemove(ctx context.Context, t *taking) error {
	detail, err := r.p.quay(t.repo.Registry).Repository(ctx, t.repo.Repository)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !quay.NotVisible(err):
		return notWhole(t.repo, err)
	case err != nil:
		return err
	case !detail.CanAdmin:
		return oci.Wrap(fmt.Errorf("%w: the token doesn't administer it", oci.ErrDenied), "delete repository", t.repo.Name(), oci.Descriptor{})
	}
	s, err := r.scan(ctx, t.repo, nil)
	if err == nil {
		t.clear(s, nil)
	}
	return err
}

// sound gives what of all can be done.
func sound(all []*taking) []*taking {
	var rest []*taking
	for _, t := range all {
		if t.failed == nil {
			rest = append(rest, t)
		}
	}
	return rest
}

// finalWord is the warning of each repository.
const finalWord = "a repository that is deleted can't be restored"

// removals gives the report's items: of each repository first itself, and then its tags.
func removals(all []*taking, status Status) []ItemReport {
	items := planned(all, status)
	for i, t := range all {
		c := Change{Reference: t.repo.Name(), Status: status, Warnings: []string{finalWord}}
		if t.failed != nil {
			c.Status, c.Error = Failed, t.failed.Error()
			if errors.Is(t.failed, oci.ErrNotFound) {
				c.Status = Absent
			}
		}
		items[i].Changes = append([]Change{c}, items[i].Changes...)
	}
	return items
}

// removeAll deletes the repositories, one after the other.
func (r *run) removeAll(ctx context.Context, all []*taking, report *Report) error {
	var errs []error
	r.expect(len(all))
	for i, t := range all {
		item := &report.Items[i]
		err := t.failed
		if err == nil {
			status := Deleted
			switch err = r.removeRepository(ctx, t.repo); {
			case err != nil && ctx.Err() != nil:
				status = Skipped
			case err != nil:
				status, item.Changes[0].Error, item.Error = Failed, err.Error(), err.Error()
			}
			for c := range item.Changes {
				item.Changes[c].Status = status
			}
		}
		errs = append(errs, err)
		r.changed(i, t.repo, item.Changes[0])
	}
	return errors.Join(errs...)
}

// removeRepository deletes repo and looks whether it is gone: Quay's answer is the
// same for what isn't there.
func (r *run) removeRepository(ctx context.Context, repo oci.Ref) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	api := r.p.quay(repo.Registry)
	deleteErr := api.DeleteRepository(ctx, repo.Repository)
	_, err := api.Repository(ctx, repo.Repository)
	switch {
	case quay.NotVisible(err) && (deleteErr == nil || errors.Is(err, oci.ErrNotFound)):
		return nil // whoever administered it and doesn't see it any more has deleted it
	case deleteErr != nil:
		return deleteErr
	case err != nil:
		return err
	}
	return oci.Wrap(errors.New("it was deleted, says Quay, and is there still"), "delete repository", repo.Name(), oci.Descriptor{})
}
