package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/internal/fnmatch"
	"github.com/quaymaster/quaymaster/oci"
)

// What becomes of a list at a destination that has platforms which the source lacks.
const (
	MergeAuto  = "auto"  // those are kept
	MergeNever = "never" // the source takes its place
)

// PushOptions are those of [Publisher.Push]. The zero value is ready.
type PushOptions struct {
	Merge string // [MergeAuto], which "" is as well, or [MergeNever]
	// DisallowSingle refuses items that are one manifest, unless the plan says that
	// they are source images.
	DisallowSingle bool
	// FailFast ends the push at the first item that fails. Without it the others go
	// on, as far as they aren't to be taken back anyway.
	FailFast bool
	// RequireExistsIn is a prefix, host/path, under which each repository and tag has
	// to exist; "" asks for nothing. The repository is that of the plan, by its names.
	RequireExistsIn string
	// Deny are shell globs of repositories that nothing is pushed to, with or without
	// the host: "quay.io/org/*", "org/secret-*".
	Deny []string
	// How lists are merged, and what else is done. Select isn't for a push.
	MergeOptions
}

// check returns an error if opt can't be, or refuses part of plan.
func (opt PushOptions) check(plan *Plan) error {
	switch {
	case plan == nil || len(plan.Items) == 0:
		return oci.Usage("the plan has no items")
	case opt.Merge != "" && opt.Merge != MergeAuto && opt.Merge != MergeNever:
		return oci.Usage(fmt.Sprintf("merge %q: write auto or never", opt.Merge))
	case !opt.Select.all():
		return oci.Usage("a push takes all platforms of its sources; merge chooses")
	}
	if opt.RequireExistsIn != "" {
		if ref, err := oci.ParseRef(opt.RequireExistsIn, ""); err != nil || ref.Reference() != "" {
			return oci.Usage(fmt.Sprintf("%q is no prefix of repositories; write host/path", opt.RequireExistsIn))
		}
	}
	var dests []oci.Ref
	var denied []error
	taken, looked := map[oci.Ref]bool{}, map[string]bool{}
	for _, item := range plan.Items {
		before := len(dests)
		for _, d := range item.Dests {
			if taken[d.Ref] {
				return oci.Usage(fmt.Sprintf("item %d: %s is there twice", item.number, d.Ref))
			}
			taken[d.Ref] = true
			dests = append(dests, d.Ref)
			if looked[d.Name()] {
				continue
			}
			looked[d.Name()] = true
			for _, glob := range opt.Deny {
				if fnmatch.Match(glob, d.Name()) || fnmatch.Match(glob, d.Repository) {
					denied = append(denied, oci.Refuse(fmt.Sprintf("item %d: %s is denied by %q", item.number, d.Name(), glob)))
					break
				}
			}
		}
		if err := usableTags(item.Source, dests[before:]...); err != nil {
			return err
		}
	}
	if err := errors.Join(opt.Guard.check(dests...), opt.Hooks.check()); err != nil {
		return err
	}
	return errors.Join(denied...)
}

// Push brings the items of plan to their tags. Everything is read first: what the
// sources are, what the tags mean. Then content is brought by its digests, and the
// tags of an item move as soon as all of its content is there, each with one write.
// A tag whose list has platforms that the source lacks gets a merged one.
//
// The report has an item for each of the plan's, in its order, and the error joins
// those of all that failed. What is found before anything is written (a source or
// a tag that can't be read) has nothing written, if a failure takes back the whole
// run. A plan or options that can't be match [oci.ErrUsage]; what Deny,
// DisallowSingle and RequireExistsIn refuse matches [oci.ErrRefused], and then
// nothing was written whatever the policy is.
func (p *Publisher) Push(ctx context.Context, plan *Plan, opt PushOptions) (*Report, error) {
	if err := opt.check(plan); err != nil {
		return nil, err
	}
	for _, line := range plan.Warnings {
		p.warn(line)
	}
	return p.do(ctx, "push", func(ctx context.Context, r *run, report *Report) error {
		return newPush(r, plan, opt, report).work(ctx)
	})
}

// A push is one push at work.
type push struct {
	*run
	opt    PushOptions
	items  []*pushItem
	cancel context.CancelCauseFunc // of what is begun; set by work

	mu      sync.Mutex
	failure bool // an item failed
	refusal bool // one was refused
}

// A pushItem is one item on its way.
type pushItem struct {
	PlanItem
	at     int // in the plan
	report *ItemReport
	kind   Kind
	from   Content
	dests  []*pushDest
	repos  []*pushRepo
	whole  bool    // that it failed is true of all its tags
	errs   []error // why it failed; guarded by push.mu
	left   int     // copies that haven't ended; likewise
}

// error joins why i failed; nil if it didn't.
func (i *pushItem) error() error { return errors.Join(i.errs...) }

// A pushRepo is a repository that an item goes to.
type pushRepo struct {
	ref    oci.Ref
	dests  []*pushDest
	err    error     // that ended the copy
	bytes  int64     // read for it
	copied []Content // parts of the source that were lacking
	along  []Change  // companions
}

// A pushDest is one tag of an item.
type pushDest struct {
	Destination
	repo    *pushRepo
	old     state
	hidden  bool // that it is absent is still to be proved
	flow    workflow
	aim     aim
	err     error
	changes []Change
}

func newPush(r *run, plan *Plan, opt PushOptions, report *Report) *push {
	s := &push{run: r, opt: opt}
	report.Items = make([]ItemReport, len(plan.Items))
	for n, item := range plan.Items {
		i := &pushItem{PlanItem: item, at: n, report: &report.Items[n]}
		i.report.Source = item.Source.String()
		byName := map[string]*pushRepo{}
		for _, d := range item.Dests {
			repo := byName[d.Name()]
			if repo == nil {
				repo = &pushRepo{ref: oci.Ref{Registry: d.Registry, Repository: d.Repository}}
				byName[d.Name()] = repo
				i.repos = append(i.repos, repo)
			}
			dest := &pushDest{Destination: d, repo: repo}
			repo.dests, i.dests = append(repo.dests, dest), append(i.dests, dest)
		}
		s.items = append(s.items, i)
		r.expect(len(i.dests))
	}
	return s
}

// work does the push.
func (s *push) work(ctx context.Context) error {
	going, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.cancel = cancel
	defer s.enter()
	for _, step := range []func(context.Context) error{s.classifyAll, s.requireAll, s.readAll, s.proveAll} {
		if err := step(going); err != nil {
			return err
		}
		if s.stops() || ctx.Err() != nil {
			return s.errors(ctx)
		}
	}
	if err := s.bring(ctx, going); err != nil {
		return errors.Join(s.errors(ctx), err)
	}
	if ctx.Err() != nil || s.stops() {
		return s.errors(ctx)
	}
	return errors.Join(s.errors(ctx), s.sign(ctx))
}

// sign runs the hooks. If they fail, so has all that they were told of.
func (s *push) sign(ctx context.Context) error {
	refs, of := s.hooked()
	err := s.runHooks(ctx, s.opt.Hooks, refs)
	for _, i := range of {
		if err != nil {
			i.report.Error = err.Error()
		}
	}
	return err
}

// each does something for all items that haven't failed, several at once. Its error
// is a panic's; those of items are noted.
func (s *push) each(ctx context.Context, do func(context.Context, *pushItem) error) error {
	var g errgroup.Group
	g.SetLimit(s.atOnce())
	for _, i := range s.items {
		if ctx.Err() != nil {
			break
		}
		if len(i.errs) > 0 {
			continue
		}
		g.Go(safely(func() error {
			if err := do(ctx, i); err != nil && ctx.Err() == nil {
				i.whole = true
				s.failed(i, err)
			}
			return nil
		}))
	}
	return g.Wait()
}

// failed notes that i can't be pushed, as a whole or in part.
func (s *push) failed(i *pushItem, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.errs = append(i.errs, err)
	s.failure = true
	s.refusal = s.refusal || errors.Is(err, oci.ErrRefused)
	if s.opt.FailFast {
		s.cancel(errFailFast)
	}
}

// errFailFast is why work ends that had not failed itself.
var errFailFast = errors.New("another item failed")

// doomed reports whether what the run changes will be taken back: all of it, or with
// an item that of the item.
func (s *push) doomed(i *pushItem) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p.DryRun || s.policy() != Auto {
		return false
	}
	return s.failure && s.p.Scope != OneItem || i != nil && len(i.errs) > 0
}

func (s *push) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// stops reports whether nothing is to be written. A dry run goes on: it tells all.
func (s *push) stops() bool {
	s.mu.Lock()
	ends := s.refusal || s.failure && s.opt.FailFast
	s.mu.Unlock()
	return !s.p.DryRun && (ends || s.doomed(nil))
}

// readAll looks at all tags, and proveAll at those that only who may push can tell
// to be absent: on Quay that creates repositories, so all others are read before. What
// becomes of a tag is decided at once.
func (s *push) readAll(ctx context.Context) error {
	return s.eachDest(ctx, func(ctx context.Context, i *pushItem, d *pushDest) error {
		old, known, err := s.read(ctx, d.Ref)
		if s.p.DryRun && errors.Is(err, oci.ErrDenied) {
			s.p.warn(fmt.Sprintf("%s: taken for a new tag, which only a real run can tell", d.Tagged()))
			old, known, err = state{Absent: true}, true, nil
		}
		d.old, d.hidden = old, !known && err == nil
		if err == nil && known {
			err = s.settle(i, d)
		}
		return err
	})
}

func (s *push) proveAll(ctx context.Context) error {
	return s.eachDest(ctx, func(ctx context.Context, i *pushItem, d *pushDest) (err error) {
		if !d.hidden {
			return nil
		}
		if d.old, err = s.prove(ctx, d.Ref); err != nil {
			return err
		}
		return s.settle(i, d)
	})
}

// eachDest is each for the tags of items that haven't failed.
func (s *push) eachDest(ctx context.Context, do func(context.Context, *pushItem, *pushDest) error) error {
	var g errgroup.Group
	g.SetLimit(s.atOnce())
	for _, i := range s.items {
		s.mu.Lock()
		failed := len(i.errs) > 0
		s.mu.Unlock()
		if failed {
			continue
		}
		for _, d := range i.dests {
			if ctx.Err() != nil {
				break
			}
			g.Go(safely(func() error {
				if err := do(ctx, i, d); err != nil && ctx.Err() == nil {
					d.err = err
					s.failed(i, err)
				}
				return nil
			}))
		}
	}
	return g.Wait()
}

// errors joins what failed, in the order of the plan. If ctx has ended that says
// why work ended.
func (s *push) errors(ctx context.Context) error {
	var errs []error
	for _, i := range s.items {
		if err := i.error(); err != nil {
			errs = append(errs, &oci.Error{Op: "push", Ref: i.Source.String(), Err: err})
		}
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// hooked gives what signers are told: what was pushed and is to stay, and what is in
// it; and of which items that is.
func (s *push) hooked() (refs []string, of []*pushItem) {
	for _, i := range s.items {
		if s.doomed(i) {
			continue
		}
		before := len(refs)
		for _, d := range i.dests {
			change := d.change()
			if change == nil || change.Status != Pushed && change.Status != Merged {
				continue
			}
			refs = append(refs, digestRefs(d.Ref, d.aim.Content)...)
		}
		if len(refs) > before {
			of = append(of, i)
		}
	}
	return refs, of
}
