package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// A oneItem is the work of a verb that has one item.
type oneItem struct {
	*run
	report *ItemReport

	mu      sync.Mutex
	failure bool     // a tag couldn't be written
	signed  []string // what hooks are told
}

// one is a run of a single item, of the tags dests: do does its work and enters its
// changes into the report, then come the hooks, and what failed is taken back. Tags
// that do doesn't come to are reported as skipped. Hooks that aren't there are an error
// before anything.
func (p *Publisher) one(ctx context.Context, command string, source oci.Ref, dests []oci.Ref, hooks Hooks, do func(ctx context.Context, i *oneItem) error) (*Report, error) {
	if err := hooks.check(); err != nil {
		return nil, err
	}
	return p.do(ctx, command, func(ctx context.Context, r *run, report *Report) error {
		r.expect(len(dests))
		report.Items = []ItemReport{{Source: source.String(), Changes: []Change{}}}
		i := &oneItem{run: r, report: &report.Items[0]}
		defer i.skipped(dests)
		err := do(ctx, i)
		if err == nil {
			err = r.runHooks(ctx, hooks, i.signed)
		}
		if err != nil {
			i.report.Error = err.Error()
		}
		return err
	})
}

// skipped reports those of dests that nothing is reported of yet.
func (i *oneItem) skipped(dests []oci.Ref) {
	reported := map[string]bool{}
	for _, c := range i.report.Changes {
		reported[c.Reference] = true
	}
	for _, d := range dests {
		if !reported[d.Tagged()] {
			i.report.Changes = append(i.report.Changes, Change{Reference: d.Tagged(), Status: Skipped})
		}
	}
}

// failed notes that a tag couldn't be written.
func (i *oneItem) failed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failure = true
}

// doomed reports whether all that was changed will be taken back, so that nothing
// more need be changed.
func (i *oneItem) doomed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failure && i.policy() == Auto
}

// move is that of the run. What it wrote is for the hooks.
func (i *oneItem) move(ctx context.Context, dest oci.Ref, old state, guard Guard, decide func(context.Context, state) (aim, error)) ([]Change, error) {
	var to Content
	changes, err := i.run.move(ctx, dest, old, guard, func(ctx context.Context, old state) (aim, error) {
		a, err := decide(ctx, old)
		to = a.Content
		return a, err
	})
	if err != nil {
		i.failed()
	}
	own := changes[len(changes)-1]
	i.changed(0, dest, own)
	if own.Status == Pushed || own.Status == Merged {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.signed = append(i.signed, digestRefs(dest, to)...)
	}
	return changes, err
}

// usableTags returns an error matching [oci.ErrUsage] unless source names
// something, and each of dests a tag.
func usableTags(source oci.Ref, dests ...oci.Ref) error {
	if source.Reference() == "" {
		return oci.Usage(fmt.Sprintf("%s: write a tag or a digest", source.String()))
	}
	if len(dests) == 0 {
		return oci.Usage("no destination is given")
	}
	for _, d := range dests {
		if d.Digest != "" || d.Tag == "" {
			return oci.Usage(fmt.Sprintf("%s: a destination must be a tag, not a digest", d.String()))
		}
	}
	return nil
}

// distinctRefs gives refs, each once, in their order.
func distinctRefs(refs []oci.Ref) []oci.Ref {
	seen := map[oci.Ref]bool{}
	var out []oci.Ref
	for _, ref := range refs {
		if !seen[ref] {
			seen[ref] = true
			out = append(out, ref)
		}
	}
	return out
}

// identify enters what the source of the item is.
func (i *ItemReport) identify(source oci.Ref, from Content) {
	i.Source, i.Digest, i.Kind = source.String(), from.Desc.Digest, Single
	if oci.IsIndexType(from.Desc.MediaType) {
		i.Kind = Multiarch
	}
}

// from reads what source means, with the source's own credentials. All that can be
// refused because of it is to be refused before [run.look], which may create a
// repository.
func (r *run) from(ctx context.Context, source oci.Ref) (Content, error) {
	repo, err := r.source(source)
	if err != nil {
		return Content{}, err
	}
	desc, raw, err := repo.Resolve(ctx, source.Reference())
	return Content{desc, raw}, err
}

// look reads what each of dests means now. In a dry run, what can't be told counts
// as absent, with a warning.
func (r *run) look(ctx context.Context, dests ...oci.Ref) ([]state, error) {
	if !r.p.DryRun {
		return r.snapshots(ctx, dests)
	}
	olds := make([]state, len(dests))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for i, d := range dests {
		g.Go(safely(func() (err error) {
			olds[i], err = r.snapshot(gctx, d)
			if errors.Is(err, oci.ErrDenied) {
				r.p.warn(fmt.Sprintf("%v; the plan takes it for absent", err))
				olds[i], err = state{Absent: true}, nil
			}
			return err
		}))
	}
	return olds, g.Wait()
}

// digestRefs gives c in the repository of ref, and the images that it lists.
func digestRefs(ref oci.Ref, c Content) []string {
	refs := []string{repoAt(ref, c.Desc.Digest).String()}
	if !oci.IsIndexType(c.Desc.MediaType) {
		return refs
	}
	list, err := index.Parse(c.Desc.MediaType, c.Raw)
	if err != nil {
		return refs // it was read before
	}
	for _, d := range list.Entries {
		if _, about := index.Attests(d); !about {
			refs = append(refs, repoAt(ref, d.Digest).String())
		}
	}
	return refs
}
