package bulk

import (
	"context"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// An image is one of the run's, on its way.
type image struct {
	planned
	at   int // its place in the report
	err  error
	step string // that err ended

	source oci.Source // nil before it was opened
	dest   *berth     // likewise
	mover  *mover
	begun  *pipeline.Begun // nil before it was looked up

	looked chan struct{} // closed once begun is set, or won't be; nil outside a window
	held   int64         // bytes of manifests, set before looked is closed
	ended  func()        // nil outside a window

	onMoved func() // nil outside a window; set before the image's work begins
}

// moved is called when only the commit and the verification of m are left.
func (m *image) moved() {
	if m.onMoved != nil {
		m.onMoved()
	}
}

// fail notes that m can't be begun.
func (m *image) fail(step string, err error) { m.step, m.err = step, err }

// open opens m at both ends. That makes no request.
func (r *run) open(ctx context.Context, m *image) {
	source, err := r.src.Source(ctx, m.item)
	if err != nil {
		m.fail("open source", err)
		return
	}
	dest, err := r.dst.Image(ctx, m.to)
	if err != nil {
		m.fail("open destination", err)
		return
	}
	m.dest = &berth{Destination: dest, holds: 1, warn: func(err error) { r.warn(err.Error()) }}
	m.mover = r.mover(m.dest, m.planned, source)
	m.source = countSource(source, counted{blobs: &r.count.fetched, bytes: func(n int64) {
		r.count.fetchedBytes.Add(n)
		r.progress.moved(n)
	}})
}

// begin looks m up.
func (r *run) begin(ctx context.Context, m *image) {
	img := pipeline.Image{Item: m.item, Source: m.source, Dest: m.dest.Destination, Traits: r.traits, To: m.to}
	m.begun = pipeline.Begin(ctx, img, pipeline.Options{
		Platforms: r.opt.Platforms, Verify: r.opt.Verify, DryRun: r.opt.DryRun, FollowMoved: r.opt.FollowMoved,
		Filters: r.opt.Filters, Mover: m.mover, Warn: r.warn, Moved: m.moved,
	})
}

// close lets go of what m has open.
func (r *run) close(m *image) {
	if m.mover != nil {
		m.mover.forget()
		m.dest.release()
	}
	if m.ended != nil {
		m.ended()
	}
}

// work begins m, for which the caller has a slot, and returns. Where images are
// taken ahead, the slot is free again once all of m was moved: what is left is to
// wait for the answers to its commit and verification. As many wait so at once as
// are moved.
func (r *run) work(ctx context.Context, m *image) {
	free := sync.OnceFunc(func() { r.slots.Release(1) })
	ending := false
	if r.window != nil {
		m.onMoved = func() {
			if ending = r.ends.Acquire(ctx, 1) == nil; ending {
				free()
			}
		}
	}
	r.group.Go(func() error {
		defer free()
		r.progress.started(m.at+1, m.item, m.to)
		report, err := r.image(ctx, m)
		r.close(m)
		if ending {
			r.ends.Release(1)
		}
		if r.spread != nil && m.planned.err == nil {
			report, err = r.leave(m.at, m.planned, report, err)
		}
		return r.end(m.at, m.planned, report, err)
	})
}

// image copies m.
func (r *run) image(ctx context.Context, m *image) (oci.ImageReport, error) {
	if m.looked != nil {
		<-m.looked
	}
	if m.err == nil && ctx.Err() == nil && m.source == nil {
		r.open(ctx, m)
	}
	if m.err == nil && ctx.Err() == nil && m.begun == nil {
		r.begin(ctx, m)
	}
	switch {
	case m.err != nil:
		return failure(m.report, m.step, m.err)
	case m.begun == nil:
		return m.report, context.Cause(ctx)
	}
	report, err := m.begun.Finish(ctx)
	report.Destination = m.report.Destination
	return report, err
}
