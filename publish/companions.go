package publish

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// companions copies what is about contents and the manifests below them
// ([run.subjects]), and what is about that, from the repository of from to that of to: cosign's tags are moved as any tag is, with a
// snapshot and an entry in the journal; referrers go by their digests. What is
// there already is left alone. The changes come in the order of the work, subjects
// first.
//
// A tag that means something else there is replaced only if nothing of that gets
// lost ([holds]). In a dry run nothing is copied. Within one repository, and where
// companions aren't to travel, there is nothing to do.
func (r *run) companions(ctx context.Context, from oci.Ref, contents []Content, to oci.Ref) ([]Change, error) {
	if !r.p.Companions || len(contents) == 0 || from.Name() == to.Name() {
		return nil, nil
	}
	finder, err := r.finder(from)
	if err != nil {
		return nil, err
	}
	var found []companion.Companion
	digests, err := r.subjects(ctx, from, contents)
	if err == nil {
		found, err = finder.Find(ctx, digests)
	}
	if err != nil {
		return nil, &oci.Error{Op: "look for companions in", Ref: from.Name(), Err: err}
	}
	if len(found) == 0 {
		return nil, nil
	}
	c := &carriage{run: r, from: from, to: to, loads: make([]load, len(found))}
	for i, f := range found {
		c.loads[i] = load{Companion: f, change: Change{Reference: c.target(f).String(), Companion: string(f.Kind), New: f.Desc.Digest}}
	}
	err = c.work(ctx)
	changes := make([]Change, len(c.loads))
	for i, l := range c.loads {
		changes[i] = l.change
	}
	return changes, err
}

// addAlong gives all with more, the changes of companions: each once, though they were
// looked for again, because their tag moved or several tags get the same. What was done
// for one before counts, unless more was done since.
func addAlong(all, more []Change) []Change {
	at := make(map[string]int, len(all))
	for i, c := range all {
		at[c.Reference] = i
	}
	for _, c := range more {
		i, again := at[c.Reference]
		switch {
		case !again:
			all = append(all, c)
		case c.Status != Unchanged:
			c.Old, c.Bytes = all[i].Old, c.Bytes+all[i].Bytes
			all[i] = c
		}
	}
	return all
}

// finder gives who looks for companions in the repository of from: the same all
// run long, so that its tags are listed once, and nothing is asked twice.
func (r *run) finder(from oci.Ref) (*companion.Finder, error) {
	repo, err := r.source(from)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.finders[from.Name()]
	if f == nil {
		f = &companion.Finder{Place: repo, Parallel: r.p.questions()}
		if r.finders == nil {
			r.finders = map[string]*companion.Finder{}
		}
		r.finders[from.Name()] = f
	}
	return f, nil
}

// A carriage brings companions from one repository into another.
type carriage struct {
	*run
	from, to oci.Ref
	loads    []load
}

// A load is one companion on its way.
type load struct {
	companion.Companion
	old    state   // what its tag means there
	source Content // with bytes if its tag is to be written
	write  bool    // it is to be copied
	change Change
}

// target is what c is called at the destination.
func (c *carriage) target(f companion.Companion) oci.Ref {
	ref := oci.Ref{Registry: c.to.Registry, Repository: c.to.Repository, Tag: f.Tag}
	if f.Tag == "" {
		ref.Digest = f.Desc.Digest
	}
	return ref
}

func (c *carriage) work(ctx context.Context) error {
	var g errgroup.Group // each says by itself what is wrong
	g.SetLimit(c.p.questions())
	for i := range c.loads {
		g.Go(safely(func() error { return c.failed(&c.loads[i], c.look(ctx, &c.loads[i])) }))
	}
	if err := g.Wait(); err != nil {
		c.rest(err)
		return err
	}
	c.leaveOut()
	if c.p.DryRun {
		return nil
	}
	err := c.copyContent(ctx)
	for i := range c.loads {
		l := &c.loads[i]
		if err == nil && l.write && l.Tag != "" {
			err = c.failed(l, c.place(ctx, l))
		}
	}
	if err != nil {
		c.rest(err)
	}
	return err
}

// failed notes err, if it is one, as l's.
func (c *carriage) failed(l *load, err error) error {
	if err != nil {
		l.change.Status, l.change.Error = Failed, err.Error()
	}
	return err
}

// rest says of what isn't done that it won't be.
func (c *carriage) rest(err error) {
	for i := range c.loads {
		if s := c.loads[i].change.Status; s == "" || s == Planned {
			c.loads[i].change.Status, c.loads[i].change.Error = Skipped, err.Error()
		}
	}
}

// look finds out what l's tag means at the destination, and what is to be done. A
// referrer has no name that could mean something else; that it is there already
// is found out by who copies it.
func (c *carriage) look(ctx context.Context, l *load) error {
	if l.Tag == "" {
		l.write, l.change.Status = true, Planned
		return nil
	}
	old, err := c.snapshot(ctx, c.target(l.Companion))
	if c.p.DryRun && errors.Is(err, oci.ErrDenied) {
		old, err = state{Absent: true}, nil // perhaps: the plan can't know
	}
	if err != nil {
		return err
	}
	return c.decide(ctx, l, old)
}

// decide settles what becomes of l's tag, which means old.
func (c *carriage) decide(ctx context.Context, l *load, old state) error {
	l.old, l.change.Old, l.write = old, old.digest(), false
	if old.digest() == l.Desc.Digest {
		l.change.Status = Unchanged
		return nil
	}
	if l.source.Raw == nil {
		repo, err := c.source(c.from)
		if err != nil {
			return err
		}
		if l.source.Desc, l.source.Raw, err = repo.Resolve(ctx, string(l.Desc.Digest)); err != nil {
			return err
		}
	}
	l.write, l.change.Status = true, Planned
	if old.Absent {
		return nil
	}
	ours, err := holds(l.source, old.Content)
	if err != nil {
		return oci.Wrap(err, "read companion", c.target(l.Companion).String(), l.source.Desc)
	}
	if ours {
		return nil
	}
	l.write, l.change.Status, l.change.New = false, Kept, old.digest()
	if theirs, err := holds(old.Content, l.source); err != nil || !theirs {
		warning := fmt.Sprintf("%s is left as it is: it has what the one in %s lacks, and the other way round", c.target(l.Companion), c.from.Name())
		l.change.Warnings = append(l.change.Warnings, warning)
		c.p.warn(warning)
	}
	return nil
}

// leaveOut takes out what is about companions that won't be at the destination. One
// that is about several images may be kept out by one tag and be there by another.
func (c *carriage) leaveOut() {
	kept, there := map[oci.Digest]bool{}, map[oci.Digest]int{}
	for _, l := range c.loads {
		if l.change.Status == Kept {
			kept[l.Desc.Digest] = true
		} else {
			there[l.Desc.Digest]++
		}
	}
	for i := range c.loads {
		if l := &c.loads[i]; l.write && kept[l.Subject] && there[l.Subject] == 0 {
			l.write, l.change.Status, l.change.New = false, Kept, l.change.Old
			kept[l.Desc.Digest] = true
			there[l.Desc.Digest]--
		}
	}
}

// copyContent brings what is to be written, by digests alone.
func (c *carriage) copyContent(ctx context.Context) error {
	var jobs []copyJob
	var of []*load
	for i := range c.loads {
		l := &c.loads[i]
		if !l.write {
			continue
		}
		desc := l.Desc
		if l.source.Raw != nil {
			desc = l.source.Desc
		}
		jobs = append(jobs, copyJob{From: repoAt(c.from, ""), Desc: desc, Raw: l.source.Raw, To: repoAt(c.to, "")})
		of = append(of, l)
	}
	if len(jobs) == 0 {
		return nil
	}
	var errs []error
	err := c.copy(ctx, jobs, func(job int, rep oci.ImageReport) {
		l := of[job]
		l.change.Bytes = rep.BytesMoved
		switch {
		case rep.Undone():
			errs = append(errs, c.failed(l, &oci.Error{Op: "copy companion", Ref: c.target(l.Companion).String(), Err: errors.New(rep.Error)}))
		case l.Tag == "" && rep.Status == oci.StatusSkipped:
			l.change.Status, l.change.Old = Unchanged, l.Desc.Digest
		case l.Tag == "":
			l.change.Status = Pushed
		}
	})
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return err
}

// place lets l's tag mean it. If somebody moves the tag meanwhile, what is there
// then is looked at as if it had always been.
func (c *carriage) place(ctx context.Context, l *load) error {
	ref := c.target(l.Companion)
	for {
		l.change.Attempts++
		err := c.put(ctx, ref, l.old, l.source)
		switch {
		case err == nil:
			l.change.Status = Pushed
			return nil
		case !errors.Is(err, oci.ErrMoved) || l.change.Attempts > recomputed:
			return err
		}
		now, err := c.snapshot(ctx, ref)
		if err != nil {
			return err
		}
		if err := c.decide(ctx, l, now); err != nil || !l.write {
			return err
		}
	}
}
