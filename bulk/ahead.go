package bulk

import (
	"context"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// planned is an image with its name at the destination.
type planned struct {
	item   oci.Item
	to     oci.Ref
	place  string // of an [oci.Spread]; else ""
	name   string // what no other image may be called
	report oci.ImageReport
	err    error // it can't have a name
}

// plan names item.
func (r *run) plan(item oci.Item) planned {
	to, err := r.opt.name(item)
	p := planned{item: item, to: to, err: err, report: pipeline.Unbegun(item, to)}
	p.name = p.report.Destination
	if r.namer != nil && err == nil {
		p.name = r.namer.NameOf(to)
	}
	if r.spread != nil && err == nil {
		p.place, p.err = r.spread.Place(to)
		p.report.Destination = p.place
		p.name = strings.TrimSuffix(p.place+":"+p.name, ":")
	}
	return p
}

// sameImage reports whether a listing gave one image twice.
func sameImage(a, b oci.ImageReport) bool {
	return a.Reference == b.Reference && (b.Digest == "" || a.Digest == b.Digest)
}

// ahead reads the whole listing, sees that no two images get one name, and
// only then starts them: those of one place of an [oci.Spread] together. A
// listing that ended early is checked and started as far as it goes.
func (r *run) ahead(ctx context.Context) {
	all, err := r.distinct(r.listAll(ctx))
	if err != nil {
		all, r.listing = nil, err
	}
	r.listed = true
	for range all {
		r.progress.listed()
	}
	r.listingEnded(ctx)
	for _, p := range r.byPlace(all) {
		if ctx.Err() != nil {
			r.cut = true
			return
		}
		r.start(ctx, p)
	}
}

// listAll plans what the source has, and sets what ended the listing. Of more
// images than the destination takes it gives none.
func (r *run) listAll(ctx context.Context) []planned {
	var all []planned
	for item, err := range r.src.Discover(ctx) {
		switch {
		case ctx.Err() != nil:
			r.cut = true
			return all
		case err != nil:
			r.listing = listingError(r.src, err)
			return all
		case !r.traits.Many && len(all) > 0:
			r.listing = oci.Usage(fmt.Sprintf("the destination takes one image, and the source has more (%s, %s, …): use dir://, ocidir:// or a path with {repo} and {tag}",
				all[0].item.Ref.Tagged(), item.Ref.Tagged()))
			return nil
		}
		all = append(all, r.plan(item))
		r.progress.emit(Event{Kind: Listed}, nil)
	}
	return all
}

// distinct leaves out what a listing gave twice. The error is a
// [*CollisionError].
func (r *run) distinct(all []planned) ([]planned, error) {
	first := make(map[string]int, len(all))
	out := all[:0]
	var c CollisionError
	for _, p := range all {
		n, taken := first[p.name]
		switch {
		case p.err != nil: // it fails alone
		case !taken:
			first[p.name] = len(out)
		case sameImage(out[n].report, p.report):
			continue
		default:
			c.add(out[n].report.Reference, p.report.Reference, p.name)
		}
		out = append(out, p)
	}
	if c.More+len(c.Lines) > 0 {
		return nil, &c
	}
	return out, nil
}

// A CollisionError says which images would get one name at the destination, so
// that nothing was begun. It matches [oci.ErrUsage].
type CollisionError struct {
	Lines []string // the first of them, at most ten: both images and the name
	More  int      // how many there are besides
}

// maxCollisions is how many are told.
const maxCollisions = 10

func (e *CollisionError) add(a, b, name string) {
	if len(e.Lines) == maxCollisions {
		e.More++
		return
	}
	e.Lines = append(e.Lines, fmt.Sprintf("%s and %s would both be %s", a, b, name))
}

func (e *CollisionError) Error() string {
	text := strings.Join(e.Lines, "\n")
	if e.More > 0 {
		text += fmt.Sprintf("\nand %d more", e.More)
	}
	return text
}

func (e *CollisionError) Unwrap() error { return oci.ErrUsage }
