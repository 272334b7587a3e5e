package bulk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/layercache"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// Copy brings all images of src to dst and makes them visible. It returns the
// report of what was done in every case; the caller adds who asked (Tool,
// Command, Source, Destination, Requests) and closes src and dst.
//
// The error joins what failed, one error for each image. It also matches
// [oci.ErrIncomplete] if the listing ended early, [oci.ErrUsage] if the place
// takes one image and there are more (nothing is transferred then) or if two
// images would get one name (the second is refused), and ctx's cause if ctx
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
	started  time.Time
	progress *progress
	count    transfers
	blobs    *blobs
	cache    *layercache.Cache // nil for none
	group    *errgroup.Group   // of images

	mu      sync.Mutex
	images  []oci.ImageReport
	names   map[key]int32 // of destinations to images
	failed  []error
	warned  map[string]bool
	listing error // that ended it
	cut     bool  // images were listed, or may be, that were not begun
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
	group.SetLimit(r.opt.images())
	r.blobs = newBlobs(gctx, r.opt, &r.count)
	r.discover(gctx)
	_ = group.Wait() // the error that ended the run; it is among r.failed
	r.blobs.wait()
	r.saveCache(ctx)
	ended := context.Cause(ctx)
	errs := append(r.failed, r.listing)
	if ended == nil {
		errs = append(errs, oci.Wrap(r.finish(ctx), "finish", "destination", oci.Descriptor{}))
		if r.cut {
			errs = append(errs, errCut)
		}
	}
	return r.report(ctx, errors.Join(errs[len(r.failed):]...)), errors.Join(append(errs, ended)...)
}

// discover starts the images as slots come free.
func (r *run) discover(ctx context.Context) {
	var only *oci.Item // of a place for one, until it is known that there is no second
	for item, err := range r.src.Discover(ctx) {
		if ctx.Err() != nil {
			r.cut = true
			break
		}
		if err != nil {
			r.listing = listingError(r.src, err)
			break
		}
		switch {
		case r.traits.Many:
			r.start(ctx, item)
		case only == nil:
			only = &item
		default:
			r.listing = oci.Usage(fmt.Sprintf("the destination takes one image, and the source has more (%s, %s, …): use dir://, ocidir:// or a path with {repo} and {tag}",
				only.Ref.Tagged(), item.Ref.Tagged()))
			only = nil
		}
		if r.listing != nil {
			break
		}
	}
	if only != nil && ctx.Err() == nil {
		r.start(ctx, *only)
	}
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

// start enters item into the report and begins it once a slot is free.
func (r *run) start(ctx context.Context, item oci.Item) {
	to, err := r.opt.name(item)
	i, isNew, taken := r.enter(item, to)
	if !isNew {
		return
	}
	if err == nil {
		err = taken
	}
	r.progress.listed()
	r.group.Go(func() error {
		r.progress.started(i+1, item, to)
		report := pipeline.Unbegun(item, to)
		switch {
		case err != nil:
			report, err = failure(report, "name", err)
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		default:
			report, err = r.image(ctx, item, to)
		}
		return r.end(i, item, to, report, err)
	})
}

// failure is the outcome of an image that didn't get as far as its pipeline.
func failure(report oci.ImageReport, step string, err error) (oci.ImageReport, error) {
	report.Status, report.Step, report.Error = oci.StatusFailed, step, err.Error()
	return report, &oci.Error{Op: "copy", Ref: report.Reference, Err: err}
}

// enter gives item its place in the report. taken says that another image has
// its name. The same image once more is no new one.
func (r *run) enter(item oci.Item, to oci.Ref) (i int, isNew bool, taken error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := pipeline.Unbegun(item, to)
	name := keyOf(oci.Digest(report.Destination))
	if n, ok := r.names[name]; !ok {
		r.names[name] = int32(len(r.images))
	} else if before := r.images[n]; before.Reference != report.Reference || report.Digest != "" && report.Digest != before.Digest {
		taken = oci.Usage(fmt.Sprintf("it would overwrite %s: both are to be %s; change the names at the destination", before.Reference, report.Destination))
	} else {
		return 0, false, nil
	}
	r.images = append(r.images, report)
	return len(r.images) - 1, true, taken
}

// image copies one.
func (r *run) image(ctx context.Context, item oci.Item, to oci.Ref) (oci.ImageReport, error) {
	source, err := r.src.Source(ctx, item)
	if err != nil {
		return failure(pipeline.Unbegun(item, to), "open source", err)
	}
	dest, err := r.dst.Image(ctx, to)
	if err != nil {
		return failure(pipeline.Unbegun(item, to), "open destination", err)
	}
	b := &berth{Destination: dest, holds: 1, warn: func(err error) { r.warn(err.Error()) }}
	defer b.release()
	source = counted{Source: source, blobs: &r.count.fetched, bytes: func(n int64) {
		r.count.fetchedBytes.Add(n)
		r.progress.moved(n)
	}}
	return pipeline.Copy(ctx, pipeline.Image{Item: item, Source: source, Dest: dest, Traits: r.traits, To: to}, pipeline.Options{
		Platforms: r.opt.Platforms, Verify: r.opt.Verify, DryRun: r.opt.DryRun, FollowMoved: r.opt.FollowMoved,
		Filters: r.opt.Filters, Mover: r.mover(b, to), Warn: r.warn,
	})
}

// mover gives the run's blob table as the image b sees it.
func (r *run) mover(b *berth, to oci.Ref) *mover {
	m := &mover{blobs: r.blobs, dest: b, to: to, cache: r.cache, specs: r.opt.FilterSpecs}
	_, mounts := b.Destination.(oci.Mounter)
	switch {
	case r.traits.Ordered || !r.shelf && !mounts:
		m.alone = true
	case r.shelf:
		m.home = r.blobs.home("")
	default:
		m.home = r.blobs.home(to.Repository)
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

// end enters what became of image i. Its error ends the run.
func (r *run) end(i int, item oci.Item, to oci.Ref, report oci.ImageReport, err error) error {
	if report.Status == oci.StatusFailed {
		r.mu.Lock()
		r.failed = append(r.failed, err)
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.images[i] = report
	r.mu.Unlock()
	r.progress.ended(i+1, item, to, &report)
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
// so that no empty archive comes to be.
func (r *run) finish(ctx context.Context) error {
	if r.opt.DryRun {
		return nil
	}
	for _, i := range r.images {
		if i.Status == oci.StatusCopied || i.Status == oci.StatusSkipped {
			return r.dst.Finish(ctx)
		}
	}
	return nil
}
