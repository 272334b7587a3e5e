package bulk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/layercache"
	"github.com/quaymaster/quaymaster/oci"
)

// Copy brings all images of src to dst and makes them visible. It returns the
// report of what was done in every case; the caller adds who asked (Tool,
// Command, Source, Destination, Requests) and closes src and dst.
//
// The error joins what failed, one error for each image. It also matches
// [oci.ErrIncomplete] if the listing ended early, [oci.ErrUsage] if the place
// takes one image and there are more (nothing is transferred then) or if two
// images would get one name (the second is refused; with [Options.Ahead] nothing is
// begun then, and it is a [*CollisionError]), and ctx's cause if ctx
// ended before the work. An image that was abandoned because of that is no
// failure. A full or read-only disk ends the run as [Options.FailFast] does.
func Copy(ctx context.Context, src backend.Images, dst oci.Target, opt Options) (*oci.Report, error) {
	r := &run{
		src: src, dst: dst, opt: opt, traits: dst.Traits(), started: time.Now(),
		names: map[key]int32{}, warned: map[string]bool{},
	}
	r.progress = newProgress(opt.Events, src)
	shelf, ok := dst.(oci.Shelf)
	r.shelf = ok && shelf.SharedBlobs()
	r.namer, _ = dst.(oci.Namer)
	if r.spread, ok = dst.(oci.Spread); ok {
		r.places = map[string]*place{}
	}
	return r.do(ctx)
}

// errCut is told where a failure ended the run, since the report lacks what the
// listing had further.
var errCut = errors.New("the run ended at a failure; images that come later were not begun")

// A run is one call of [Copy].
type run struct {
	src      backend.Images
	dst      oci.Target
	opt      Options
	traits   oci.Traits
	shelf    bool
	namer    oci.Namer  // dst, if it is one
	spread   oci.Spread // likewise
	started  time.Time
	ctx      context.Context // the caller's: places are finished also once a failure ended the rest
	progress *progress
	count    transfers
	blobs    *blobs
	cache    *layercache.Cache   // nil for none
	group    *errgroup.Group     // of images
	slots    *semaphore.Weighted // of images that are moved
	ends     *semaphore.Weighted // of images of which all was moved
	window   *window             // nil where images aren't looked up ahead

	mu      sync.Mutex
	images  []oci.ImageReport
	names   map[key]int32 // of destinations to images
	failed  []error
	warned  map[string]bool
	listing error // that ended it
	cut     bool  // images were listed, or may be, that were not begun
	listed  bool  // the listing was told to progress as a whole
	places  map[string]*place
	// unfinished are errors of places whose images are there all the same.
	unfinished error
}

func (r *run) do(ctx context.Context) (*oci.Report, error) {
	if len(r.opt.Platforms) > 1 && !r.traits.Index {
		err := oci.Usage(fmt.Sprintf("the destination takes one platform, and %d were chosen", len(r.opt.Platforms)))
		return r.report(ctx, err), err
	}
	if u, ok := r.dst.(interface{ UseUniqueNames() bool }); ok && r.src.Bulk() && u.UseUniqueNames() {
		r.warn("many images into one folder: each gets a manifest file of its own, as with ?unique_names=true")
	}
	r.openCache()
	group, gctx := errgroup.WithContext(ctx)
	r.group = group
	r.slots, r.ends = semaphore.NewWeighted(int64(r.opt.images())), semaphore.NewWeighted(int64(r.opt.images()))
	r.blobs = newBlobs(gctx, r.opt, &r.count)
	r.ctx = ctx
	if r.traits.Ahead && r.spread == nil {
		r.window = r.openWindow(gctx)
	}
	r.discover(gctx)
	if r.window != nil {
		r.window.close()
	}
	_ = group.Wait() // the error that ended the run; it is among r.failed
	r.blobs.wait()
	if r.window != nil && r.window.dropped > 0 {
		r.cut = true
		r.images = r.images[:len(r.images)-r.window.dropped]
	}
	r.leaveAll()
	r.saveCache(ctx)
	ended := context.Cause(ctx)
	finished := r.finish(ctx)
	errs := append(r.failed, r.listing)
	if ended == nil {
		errs = append(errs, finished, r.unfinished)
		if r.cut {
			errs = append(errs, errCut)
		}
	}
	return r.report(ctx, errors.Join(errs[len(r.failed):]...)), errors.Join(append(errs, ended)...)
}

// discover starts the images as slots come free.
func (r *run) discover(ctx context.Context) {
	if r.opt.Ahead || r.spread != nil || !r.traits.Many {
		r.ahead(ctx)
		return
	}
	for item, err := range r.src.Discover(ctx) {
		if ctx.Err() != nil {
			r.cut = true
			break
		}
		if err != nil {
			r.listing = listingError(r.src, err)
			break
		}
		r.start(ctx, r.plan(item))
	}
	r.listingEnded(ctx)
}

// listingEnded says so, and notes whether images were left out.
func (r *run) listingEnded(ctx context.Context) {
	if l := r.progress.lister; l != nil && ctx.Err() != nil && !l.Listing().Done {
		r.cut = true
	}
	r.progress.listingEnded(r.listing == nil && ctx.Err() == nil)
}

// listingError says that err, which ended the listing of src, left images out.
// Of a single image there is nothing to leave out.
func listingError(src backend.Images, err error) error {
	final := errors.Is(err, oci.ErrUsage) || errors.Is(err, oci.ErrRefused) || errors.Is(err, oci.ErrDenied) || errors.Is(err, oci.ErrIncomplete)
	if final || !src.Bulk() {
		return err
	}
	return fmt.Errorf("%w: %w", oci.ErrIncomplete, err)
}

// start enters p into the report and begins it once a slot is free, or has it
// looked up ahead of that.
func (r *run) start(ctx context.Context, p planned) {
	if r.window != nil && !r.window.room(ctx) {
		r.cut = true
		return
	}
	i, isNew, taken := r.enter(p)
	if !isNew {
		return
	}
	m := &image{planned: p, at: i}
	if p.err != nil {
		m.fail("name", p.err)
	} else if taken != nil {
		m.fail("name", taken)
	}
	if !r.listed {
		r.progress.listed()
	}
	if r.window != nil {
		r.window.add(ctx, m)
	} else {
		_ = r.slots.Acquire(context.Background(), 1) // who has them ends with ctx
		r.work(ctx, m)
	}
}

// failure is the outcome of an image that didn't get as far as its pipeline.
func failure(report oci.ImageReport, step string, err error) (oci.ImageReport, error) {
	report.Status, report.Step, report.Error = oci.StatusFailed, step, err.Error()
	return report, &oci.Error{Op: "copy", Ref: report.Reference, Err: err}
}

// enter gives p its place in the report. taken says that another image has
// its name. The same image once more is no new one.
func (r *run) enter(p planned) (i int, isNew bool, taken error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := keyOf(oci.Digest(p.name))
	if n, ok := r.names[name]; !ok {
		r.names[name] = int32(len(r.images))
	} else if before := r.images[n]; !sameImage(before, p.report) {
		taken = oci.Usage(fmt.Sprintf("it would overwrite %s: both are to be %s; change the names at the destination", before.Reference, p.name))
	} else {
		return 0, false, nil
	}
	r.images = append(r.images, p.report)
	return len(r.images) - 1, true, taken
}

// mover gives the run's blob table as the image b of source sees it.
func (r *run) mover(b *berth, p planned, source oci.Source) *mover {
	to := p.to
	m := &mover{blobs: r.table(p.place), dest: b, to: to, cache: r.cache, specs: r.opt.FilterSpecs}
	_, mounts := b.Destination.(oci.Mounter)
	if l, ok := source.(oci.Lodger); ok && mounts {
		if registry, repository := l.Lodging(); registry == to.Registry {
			m.near = repository
		}
	}
	switch {
	case r.traits.Ordered || !r.shelf && !mounts:
		m.alone = true
	case r.shelf:
		m.home = m.blobs.home("")
	default:
		m.home = m.blobs.home(to.Repository)
	}
	return m
}

// warn tells the user each line once.
func (r *run) warn(line string) {
	r.mu.Lock()
	first := !r.warned[line]
	if r.warned[line] = true; len(r.warned) > maxWarnings {
		first = false
	}
	r.mu.Unlock()
	if first && r.opt.Warn != nil {
		r.opt.Warn(line)
	}
}

// maxWarnings is how many different lines a run tells.
const maxWarnings = 100

// end enters what became of p, the image i. Its error ends the run.
func (r *run) end(i int, p planned, report oci.ImageReport, err error) error {
	if report.Status == oci.StatusFailed {
		r.mu.Lock()
		r.failed = append(r.failed, err)
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.images[i] = report
	r.mu.Unlock()
	r.progress.ended(i+1, p.item, p.to, &report)
	if report.Status == oci.StatusFailed && (r.opt.FailFast || hopeless(err)) {
		return err
	}
	return nil
}

// hopeless reports whether err means that no other image can be written
// either: to go on would only fetch what can't be kept.
func hopeless(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// finish makes visible what was committed. With nothing there it isn't called,
// so that no empty archive comes to be; nor in a run that was interrupted.
func (r *run) finish(ctx context.Context) error {
	var there []int
	for i, report := range r.images {
		if isThere(report) {
			there = append(there, i)
		}
	}
	switch {
	case r.opt.DryRun || r.spread != nil || len(there) == 0:
		return nil
	case ctx.Err() != nil:
		r.lost(there, nil, -1)
		return nil
	}
	err := oci.Wrap(r.dst.Finish(ctx), "finish", "destination", oci.Descriptor{})
	if err != nil && r.lost(there, err, -1) {
		return nil // it is that of each image
	}
	return err
}

// lost enters that the images there aren't, since their file wasn't finished, or
// failed to be; false if they are there all the same. An image that was skipped
// was there before. Who enters an error of the image mine does so himself.
func (r *run) lost(there []int, err error, mine int) bool {
	if !r.traits.Late {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range there {
		report := &r.images[i]
		if report.Status == oci.StatusSkipped && err == nil || i == mine {
			continue
		}
		report.Status, report.Verified = oci.StatusInterrupted, false
		if err != nil {
			failed, e := failure(*report, "finish", err)
			*report, r.failed = failed, append(r.failed, e)
		}
	}
	return true
}
