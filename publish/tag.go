package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// TagOptions are those of [Publisher.Tag]. The zero value is ready.
type TagOptions struct {
	// Platform takes that image of a list, by its own manifest. nil takes what
	// source means as it is, with all its platforms.
	Platform *oci.Platform
	Guard    Guard
	Hooks    Hooks
}

// Tag lets each of dests mean what source means, byte for byte. Content that the
// repository of a destination lacks is copied there first; within one repository
// nothing is read but manifests. A tag that means it already is not written.
//
// Source may be a digest, destinations must be tags; else the error matches
// [oci.ErrUsage], as it does where source has no such platform. A destination that
// fails keeps the others from being written only where they would be taken back.
func (p *Publisher) Tag(ctx context.Context, source oci.Ref, dests []oci.Ref, opt TagOptions) (*Report, error) {
	dests = distinctRefs(dests)
	if err := errors.Join(usableTags(source, dests...), opt.Guard.check(dests...)); err != nil {
		return nil, err
	}
	return p.one(ctx, "tag", source, dests, opt.Hooks, func(ctx context.Context, i *oneItem) error {
		from, err := i.from(ctx, source)
		if err == nil && opt.Platform != nil {
			from, err = i.child(ctx, source, from, *opt.Platform)
		}
		if err != nil {
			return err
		}
		for _, d := range dests {
			if err := opt.Guard.fits(d, from.Desc.Digest); err != nil {
				return err
			}
		}
		olds, err := i.look(ctx, dests...)
		if err != nil {
			return err
		}
		i.report.identify(source, from)
		t := tagging{
			oneItem: i, source: source, from: from, dests: dests, olds: olds, opt: opt,
			room: make(chan struct{}, i.atOnce()), done: make([][]Change, len(dests)), bytes: make([]int64, len(dests)), errs: make([]error, len(dests)),
		}
		err = t.work(ctx)
		for i, n := range t.bytes {
			if own := len(t.done[i]) - 1; own >= 0 {
				t.done[i][own].Bytes += n
			}
		}
		i.report.Changes = append(i.report.Changes, slices.Concat(t.done...)...)
		return err
	})
}

// A tagging gives several tags the same content.
type tagging struct {
	*oneItem
	source oci.Ref
	from   Content
	dests  []oci.Ref
	olds   []state
	opt    TagOptions

	group errgroup.Group // of what is begun; its errors are panics
	room  chan struct{}  // for as many of them as work at once
	done  [][]Change     // by destination
	bytes []int64        // read for it: the first's of a repository; the others cost nothing
	errs  []error        // likewise
}

// begin starts f, which goes on once there is room. It never waits.
func (t *tagging) begin(f func()) {
	t.group.Go(safely(func() error {
		t.room <- struct{}{}
		defer func() { <-t.room }()
		f()
		return nil
	}))
}

// work goes by repository: as soon as one has the content its tags are moved, for a
// registry may keep what nothing names for an hour only.
func (t *tagging) work(ctx context.Context) error {
	byName := map[string][]int{}
	var names []string
	for i, d := range t.dests {
		if byName[d.Name()] == nil {
			names = append(names, d.Name())
		}
		byName[d.Name()] = append(byName[d.Name()], i)
	}
	var jobs []copyJob
	var ofJob [][]int
	for _, name := range names {
		tags := byName[name]
		if t.lacks(name, tags) {
			jobs = append(jobs, copyJob{From: repoAt(t.source, t.from.Desc.Digest), Desc: t.from.Desc, Raw: t.from.Raw, To: repoAt(t.dests[tags[0]], "")})
			ofJob = append(ofJob, tags)
			continue
		}
		t.begin(func() { t.name(ctx, tags) })
	}
	err := t.copy(ctx, jobs, func(job int, rep oci.ImageReport) {
		t.bytes[ofJob[job][0]] = rep.BytesMoved
		t.begin(func() {
			if rep.Undone() {
				t.fail(ofJob[job], copyError(jobs[job], rep))
			} else {
				t.name(ctx, ofJob[job])
			}
		})
	})
	if thrown := t.group.Wait(); thrown != nil { // other errors are in t.errs
		return thrown
	}
	if failed := errors.Join(t.errs...); failed != nil {
		return failed // err is of the same copies
	}
	return err
}

// lacks reports whether content is to be copied for these tags of the repository
// name: it isn't the source's, and one of them means something else.
func (t *tagging) lacks(name string, tags []int) bool {
	other := func(i int) bool { return t.olds[i].digest() != t.from.Desc.Digest }
	return !t.p.DryRun && name != t.source.Name() && slices.ContainsFunc(tags, other)
}

// name moves tags of one repository, which has the content, after the companions
// came.
func (t *tagging) name(ctx context.Context, tags []int) {
	if err := t.carry(ctx, tags[0]); err != nil {
		t.fail(tags, err)
		return
	}
	for _, i := range tags {
		t.begin(func() {
			if t.doomed() {
				t.done[i] = append(t.done[i], Change{Reference: t.dests[i].Tagged(), Status: Skipped, Old: t.olds[i].digest()})
				return
			}
			var changes []Change
			changes, t.errs[i] = t.move(ctx, t.dests[i], t.olds[i], t.opt.Guard, func(context.Context, state) (aim, error) {
				return aim{Content: t.from, Status: Pushed}, nil
			})
			t.done[i] = append(t.done[i], changes...)
		})
	}
}

// carry brings the companions of the content into the repository of dests[i]. Also
// of what was there before: a signature may have been made since.
func (t *tagging) carry(ctx context.Context, i int) error {
	if t.dests[i].Name() == t.source.Name() {
		return nil
	}
	along, err := t.companions(ctx, t.source, []Content{t.from}, t.dests[i])
	t.done[i] = append(t.done[i], along...)
	return err
}

// fail gives tags that couldn't be begun with the error why.
func (t *tagging) fail(tags []int, why error) {
	t.failed()
	for _, i := range tags {
		c := Change{Reference: t.dests[i].Tagged(), Status: Failed, Old: t.olds[i].digest(), Error: why.Error()}
		t.done[i] = append(t.done[i], c)
		t.changed(0, t.dests[i], c)
	}
	t.errs[tags[0]] = why
}

// child gives the image of platform p of what source means.
func (r *run) child(ctx context.Context, source oci.Ref, from Content, p oci.Platform) (Content, error) {
	repo, err := r.source(source)
	if err != nil {
		return from, err
	}
	refuse := func(count string, have ...string) error {
		return oci.Usage(fmt.Sprintf("%s has %s image for %s; it has %s", source.String(), count, index.Name(p), strings.Join(have, ", ")))
	}
	if !oci.IsIndexType(from.Desc.MediaType) {
		have, err := configPlatform(ctx, repo, from)
		if err != nil {
			return from, oci.Wrap(err, "read the platform of", source.String(), from.Desc)
		}
		if !matches(p, have) {
			err = refuse("no", index.Name(index.Normalize(have)))
		}
		return from, err
	}
	ix, err := index.Parse(from.Desc.MediaType, from.Raw)
	if err != nil {
		return from, oci.Wrap(err, "read the list of", source.String(), from.Desc)
	}
	known, err := r.platforms(ctx, repo, ix)
	if err != nil {
		return from, err
	}
	var names []string
	var like, same []oci.Descriptor
	for _, d := range ix.Entries {
		have, ok := index.PlatformOf(d, known)
		if !ok {
			continue
		}
		names = append(names, index.Name(have))
		if matches(p, have) {
			like = withEntry(like, d)
		}
		if index.Key(p, true) == index.Key(have, true) {
			same = withEntry(same, d)
		}
	}
	if len(same) == 1 {
		like = same // who says linux/arm means arm/v7, where there are others
	}
	switch len(like) {
	case 0:
		return from, refuse("no", names...)
	case 1:
	default:
		return from, refuse("more than one", names...)
	}
	desc, raw, err := repo.Resolve(ctx, string(like[0].Digest))
	return Content{desc, raw}, err
}

// withEntry gives entries with d, whose image counts once however often it is listed.
func withEntry(entries []oci.Descriptor, d oci.Descriptor) []oci.Descriptor {
	if slices.ContainsFunc(entries, func(e oci.Descriptor) bool { return e.Digest == d.Digest }) {
		return entries
	}
	return append(entries, d)
}
