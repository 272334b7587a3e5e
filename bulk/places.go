package bulk

import (
	"errors"
	"slices"

	"github.com/quaymaster/quaymaster/oci"
)

// A place is one of those of an [oci.Spread]: begun with its first image, and
// finished as soon as its last has ended.
type place struct {
	name   string
	blobs  *blobs
	left   int   // images that haven't ended
	images []int // those that are there, by number
}

// byPlace gives all with the images of each place together, places in the order
// of their first, and begins the places: so few are open at once.
func (r *run) byPlace(all []planned) []planned {
	if r.spread == nil {
		return all
	}
	order := map[string]int{}
	for _, p := range all {
		if p.err != nil {
			continue
		}
		pl := r.places[p.place]
		if pl == nil {
			pl = &place{name: p.place, blobs: r.blobs.apart()}
			r.places[p.place] = pl
			order[p.place] = len(order)
		}
		pl.left++
	}
	for _, pl := range r.places {
		r.spread.Begin(pl.name, pl.left)
	}
	slices.SortStableFunc(all, func(a, b planned) int { return order[a.place] - order[b.place] })
	return all
}

// table gives the blob table of place: its images share blobs with each other
// and with nobody else.
func (r *run) table(name string) *blobs {
	if r.spread == nil {
		return r.blobs
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.places[name].blobs
}

// leave notes that p, the image i, has ended. After the last of its place the
// place is finished; an error of that is each of its images'.
func (r *run) leave(i int, p planned, report oci.ImageReport, err error) (oci.ImageReport, error) {
	r.mu.Lock()
	pl := r.places[p.place]
	pl.left--
	last, there := pl.left == 0, isThere(report)
	if there {
		pl.images = append(pl.images, i)
	}
	if last {
		delete(r.places, p.place)
	}
	r.mu.Unlock()
	if !last {
		return report, err
	}
	r.mu.Lock()
	r.images[i] = report
	r.mu.Unlock()
	if e := r.finishPlace(pl, i); e != nil && there {
		report.Verified = false
		return failure(report, "finish", e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images[i], err
}

// isThere reports whether report is of an image that the destination has.
func isThere(report oci.ImageReport) bool {
	return report.Status == oci.StatusCopied || report.Status == oci.StatusSkipped
}

// finishPlace finishes pl, or gives it up if nothing came of it or the run was
// interrupted. An error is entered as that of its images, but for the image mine.
func (r *run) finishPlace(pl *place, mine int) error {
	pl.blobs.wait()
	keep := len(pl.images) > 0 && !r.opt.DryRun && r.ctx.Err() == nil
	err := r.spread.End(r.ctx, pl.name, keep)
	switch {
	case r.opt.DryRun:
	case !keep:
		r.lost(pl.images, nil, -1)
	case err != nil && r.lost(pl.images, err, mine):
		return err
	}
	if err != nil {
		r.mu.Lock()
		r.unfinished = errors.Join(r.unfinished, err)
		r.mu.Unlock()
	}
	return nil
}

// leaveAll finishes the places that the run was cut off from.
func (r *run) leaveAll() {
	for _, pl := range r.places {
		_ = r.finishPlace(pl, -1) // it is entered as that of its images
	}
}
