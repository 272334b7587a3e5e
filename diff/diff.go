package diff

import (
	"cmp"
	"context"
	"iter"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A Place is one side: its images, and the platforms of indexes that matter.
// None means all; then also an index whose images are the same, but whose
// digest isn't, counts as changed.
type Place struct {
	Images    backend.Images
	Platforms []oci.Platform
}

// Options of [Images]. The zero value is ready.
type Options struct {
	// Images is how many pairs are compared at once. 0 means 3.
	Images int
	// Layers is how many layers are read at once. 0 means 4.
	Layers int
	// Layer bounds what layers may grow to.
	Layer layer.Options
}

// differ is one call of Images.
type differ struct {
	a, b Place
	opt  Options
	sum  *Summary

	slots   *semaphore.Weighted
	layers  filetree.Once[oci.Digest, *filetree.Listing]
	configs filetree.Once[oci.Digest, *filetree.Config]
	uses    uses
	read    atomic.Int64 // layers
}

// Images gives the images that differ between a and b, sorted by name, and
// counts into sum, which may be read when the sequence has ended. Images go by
// repository path and tag, without host; two single images are compared
// whatever they are called.
//
// What can't be read of an image is in the image, with status [Failed]. The
// sequence ends with its first error: of a listing, or one matching
// [oci.ErrUsage] for sides that can't be compared.
func Images(ctx context.Context, a, b Place, opt Options, sum *Summary) iter.Seq2[Image, error] {
	return func(yield func(Image, error) bool) {
		opt.Images, opt.Layers = cmp.Or(max(opt.Images, 0), 3), cmp.Or(max(opt.Layers, 0), 4)
		d := &differ{a: a, b: b, opt: opt, sum: sum, slots: semaphore.NewWeighted(int64(opt.Layers))}
		*sum = Summary{}
		defer func() { sum.Layers = int(d.read.Load()) }()
		pairs, err := d.pairs(ctx)
		if err != nil {
			yield(Image{}, err)
			return
		}
		for img := range inOrder(ctx, opt.Images, d.resolved(ctx, pairs), d.compare) {
			if ctx.Err() != nil {
				break
			}
			d.count(img.Status)
			if img.Status != "" && !yield(img, nil) {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(Image{}, err)
		}
	}
}

func (d *differ) count(s Status) {
	switch s {
	case Added:
		d.sum.Added++
	case Removed:
		d.sum.Removed++
	case Changed:
		d.sum.Changed++
	case Failed:
		d.sum.Failed++
	default:
		d.sum.Equal++
	}
}

// inOrder calls do for all, atOnce at a time, and gives the results in order.
func inOrder[T, R any](ctx context.Context, atOnce int, all []T, do func(context.Context, T) R) iter.Seq[R] {
	return func(yield func(R) bool) {
		ctx, cancel := context.WithCancel(ctx)
		queue := make(chan chan R, atOnce) // its room bounds the results that wait
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer close(queue)
			var g errgroup.Group
			g.SetLimit(atOnce)
			defer func() { _ = g.Wait() }() // its functions return no error
			for _, one := range all {
				if ctx.Err() != nil {
					return
				}
				answer := make(chan R, 1)
				queue <- answer
				g.Go(func() error {
					answer <- do(ctx, one)
					return nil
				})
			}
		}()
		defer func() {
			cancel()
			for range queue { // whoever waits for room in it
			}
			<-done
		}()
		for answer := range queue {
			if !yield(<-answer) {
				return
			}
		}
	}
}
