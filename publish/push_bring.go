package publish

import (
	"cmp"
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// A pushJob is a copy for one repository of an item.
type pushJob struct {
	item *pushItem
	repo *pushRepo
}

// bring copies the content of all items, and moves the tags of each as soon as it
// has all, while others are still on their way. What is begun ends with going; tags
// end with ctx, since one that is being moved had better be.
func (s *push) bring(ctx, going context.Context) error {
	jobs, of := s.jobs()
	ready := make(chan *pushItem, len(s.items))
	var movers errgroup.Group
	for range cmp.Or(max(s.p.Images, 0), 3) {
		movers.Go(safely(func() error {
			for i := range ready {
				s.moveItem(ctx, going, i)
			}
			return nil
		}))
	}
	for _, i := range s.items {
		if i.left == 0 && len(i.errs) == 0 {
			ready <- i
		}
	}
	err := s.copy(going, jobs, func(n int, rep oci.ImageReport) {
		job := of[n]
		s.mu.Lock()
		s.ended(job, jobs[n], rep)
		over := job.item.left == 0
		s.mu.Unlock()
		if over {
			ready <- job.item
		}
	})
	close(ready)
	if panicked := movers.Wait(); panicked != nil {
		return panicked
	}
	_, panicked := errors.AsType[*panicError](err)
	if !panicked && (s.hasFailed() || going.Err() != nil) {
		return nil // an item says what failed
	}
	return err
}

// jobs gives what is to be copied. A source's own repository has it all.
func (s *push) jobs() (jobs []copyJob, of []pushJob) {
	if s.p.DryRun {
		return nil, nil
	}
	for _, i := range s.items {
		if len(i.errs) > 0 {
			continue
		}
		for _, repo := range i.repos {
			if repo.ref.Name() == i.Source.Name() {
				continue
			}
			for _, c := range s.contents(i, repo) {
				c.From, c.To = oci.Ref{Registry: i.Source.Registry, Repository: i.Source.Repository, Tag: i.Source.Tag}, repo.ref
				jobs, of = append(jobs, c), append(of, pushJob{i, repo})
				i.left++
			}
		}
	}
	return jobs, of
}

// contents gives what of the item i a repository is to have: the source itself where
// a tag is to mean it; what it lists where tags get merged lists.
func (s *push) contents(i *pushItem, repo *pushRepo) []copyJob {
	merges := false
	for _, d := range repo.dests {
		if d.flow == simple {
			return []copyJob{{Desc: i.from.Desc, Raw: i.from.Raw}}
		}
		merges = merges || d.flow == merging
	}
	list, err := index.Parse(i.from.Desc.MediaType, i.from.Raw)
	switch {
	case !merges:
		return nil
	case err != nil: // a single image that becomes part of a list
		return []copyJob{{Desc: i.from.Desc, Raw: i.from.Raw}}
	}
	var all []copyJob
	for _, d := range list.Entries {
		all = append(all, copyJob{Desc: oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}})
	}
	return all
}

// ended notes what became of a copy. push.mu is held.
func (s *push) ended(job pushJob, j copyJob, rep oci.ImageReport) {
	job.item.left--
	job.repo.bytes += rep.BytesMoved
	switch rep.Status {
	case oci.StatusCopied:
		c := Content{Desc: j.Desc}
		if j.Desc.Digest == job.item.from.Desc.Digest {
			c = alone(j.Desc.Digest) // what is below it comes with [push.accompany]
		}
		job.repo.copied = append(job.repo.copied, c)
	case oci.StatusFailed:
		job.repo.err = errors.New(rep.Error) // it says its step
		job.item.errs = append(job.item.errs, &oci.Error{Op: "copy to", Ref: job.repo.ref.Name(), Err: job.repo.err})
		s.failure = true
		if s.opt.FailFast {
			s.cancel(errFailFast)
		}
	case oci.StatusInterrupted:
		job.repo.err = errFailFast // or the run's end, which says so itself
	}
}

// moveItem moves the tags of an item that has its content. Once they are to be taken
// back no other is begun.
func (s *push) moveItem(ctx, going context.Context, i *pushItem) {
	for _, repo := range i.repos {
		if repo.err != nil || going.Err() != nil || s.doomed(i) {
			continue
		}
		if err := s.accompany(ctx, i, repo); err != nil {
			s.failed(i, err)
			repo.err = err
			continue
		}
		for _, d := range repo.dests {
			if going.Err() != nil || s.doomed(i) {
				return
			}
			d.changes, d.err = s.move(ctx, d.Ref, d.old, s.opt.Guard, func(ctx context.Context, old state) (aim, error) {
				return s.aimAt(ctx, i, d, old)
			})
			if d.err != nil {
				s.failed(i, d.err)
			}
			if c := d.change(); c != nil {
				c.Bytes += repo.bytes // the first tag's; the others cost nothing
				repo.bytes = 0
				s.changed(i.at, d.Ref, *c)
			}
		}
	}
}

// accompany brings the companions of the source where tags of repo are to mean it.
// Also where they do already: a signature may have been made since. Those of merged
// lists come with the merge.
func (s *push) accompany(ctx context.Context, i *pushItem, repo *pushRepo) error {
	whole := false
	for _, d := range repo.dests {
		whole = whole || d.flow != merging
	}
	if !whole {
		return nil
	}
	along, err := s.companions(ctx, i.Source, []Content{i.from}, repo.ref)
	repo.along = addAlong(repo.along, along)
	return err
}

// change gives what became of the tag itself, nil if it wasn't begun.
func (d *pushDest) change() *Change {
	if len(d.changes) == 0 {
		return nil
	}
	return &d.changes[len(d.changes)-1]
}

// enter enters into the report what became of all.
func (s *push) enter() {
	for _, i := range s.items {
		if err := i.error(); err != nil {
			i.report.Error = err.Error()
		}
		for _, repo := range i.repos {
			i.report.Changes = append(i.report.Changes, repo.along...)
			for _, d := range repo.dests {
				told := d.told(i)
				told[len(told)-1].Bytes += repo.bytes // that no tag moved after
				repo.bytes = 0
				i.report.Changes = append(i.report.Changes, told...)
			}
		}
	}
}

// told gives the changes of d, of a tag that wasn't begun as well.
func (d *pushDest) told(i *pushItem) []Change {
	if len(d.changes) > 0 {
		return d.changes
	}
	c := Change{Reference: d.Tagged(), Status: Skipped, Old: d.old.digest()}
	err := d.err
	if err == nil {
		err = d.repo.err
	}
	if err == nil && i.whole {
		err = i.error()
	}
	if err != nil && !errors.Is(err, errFailFast) {
		c.Status, c.Error = Failed, err.Error()
	}
	return []Change{c}
}
