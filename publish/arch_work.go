package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// An archWork adds or removes platforms of the tags of one repository.
type archWork struct {
	*oneItem
	opt    ArchOptions
	source oci.Ref                     // the zero value where there is none
	from   Content                     // what it means
	listed *index.Index                // that, once a tag needed it; nil for a single image
	known  map[oci.Digest]oci.Platform // of its entries, which the list doesn't say
}

// arch is the run of AddPlatforms and RemovePlatforms: decide says what a tag is to
// mean, for the tags that source's kind goes together with.
func (p *Publisher) arch(ctx context.Context, command string, source oci.Ref, tags []oci.Ref, opt ArchOptions, decide func(context.Context, *archWork, oci.Ref, state) (aim, error)) (*Report, error) {
	tags = distinctRefs(tags)
	if err := errors.Join(sameRepository(source, tags), opt.Guard.check(tags...)); err != nil {
		return nil, err
	}
	return p.one(ctx, command, source, tags, opt.Hooks, func(ctx context.Context, i *oneItem) error {
		w := &archWork{oneItem: i, opt: opt, source: source}
		olds, err := w.read(ctx, tags)
		if err != nil {
			return err
		}
		if source != (oci.Ref{}) {
			i.report.identify(source, w.from)
		}
		// All are looked at before the first is written: a refusal changes nothing.
		for n, tag := range tags {
			if err := w.mismatch(tag, olds[n]); err != nil {
				return err
			}
		}
		var errs []error
		for n, tag := range tags {
			if i.doomed() {
				break
			}
			changes, err := i.move(ctx, tag, olds[n], opt.Guard, func(ctx context.Context, old state) (aim, error) {
				if err := w.mismatch(tag, old); err != nil {
					return aim{}, err
				}
				return decide(ctx, w, tag, old)
			})
			i.report.Changes = append(i.report.Changes, changes...)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// read reads what the source, if there is one, and the tags mean. All of it is done
// as one who writes there: it is one repository.
func (w *archWork) read(ctx context.Context, tags []oci.Ref) ([]state, error) {
	if w.source != (oci.Ref{}) {
		repo, err := w.dest(w.source)
		if err != nil {
			return nil, err
		}
		if w.from.Desc, w.from.Raw, err = repo.Resolve(ctx, w.source.Tag); err != nil {
			return nil, err
		}
	}
	return w.look(ctx, tags...)
}

// mismatch returns an error matching [oci.ErrRefused] where one of source and tag
// is a single image, and the other a list.
func (w *archWork) mismatch(tag oci.Ref, old state) error {
	if w.source == (oci.Ref{}) || old.Absent || oci.IsIndexType(w.from.Desc.MediaType) == oci.IsIndexType(old.Desc.MediaType) {
		return nil
	}
	kind := func(c Content) string {
		if oci.IsIndexType(c.Desc.MediaType) {
			return "a list of platforms"
		}
		return "a single image"
	}
	return oci.Refuse(fmt.Sprintf("%s is %s and %s is %s: merge --promote-single joins the two", w.source.String(), kind(w.from), tag.String(), kind(old.Content)))
}

// leave lets the tag be as it is, and says why.
func (w *archWork) leave(tag oci.Ref, old state, why string) (aim, error) {
	return aim{Content: old.Content, Warnings: []string{fmt.Sprintf("%s: %s", tag.String(), why)}}, nil
}

// sourceList gives what the source lists, and the platforms of its entries, which are
// read once for all tags.
func (w *archWork) sourceList(ctx context.Context) (_ *index.Index, _ map[oci.Digest]oci.Platform, err error) {
	if w.listed == nil {
		w.listed, w.known, err = w.list(ctx, w.source, w.from)
	}
	return w.listed, maps.Clone(w.known), err
}

// list reads what content, of ref, lists, and the platforms of all its entries.
func (w *archWork) list(ctx context.Context, ref oci.Ref, c Content) (*index.Index, map[oci.Digest]oci.Platform, error) {
	repo, err := w.dest(ref)
	if err != nil {
		return nil, nil, err
	}
	ix, err := index.Parse(c.Desc.MediaType, c.Raw)
	if err != nil {
		return nil, nil, oci.Wrap(err, "read the list of", ref.String(), c.Desc)
	}
	known, err := w.platforms(ctx, repo, ix)
	if err != nil {
		return nil, nil, err
	}
	return ix, known, nil
}

// add gives tag what it has and the platforms of the source.
func (w *archWork) add(ctx context.Context, tag oci.Ref, old state) (aim, error) {
	a := aim{Status: Merged}
	src, known, err := w.sourceList(ctx)
	if err != nil {
		return a, err
	}
	opt := w.opt.index()
	opt.Platforms = known
	if !src.Eligible(opt) {
		return w.leave(tag, old, w.source.String()+" has none of the platforms that are to be added")
	}
	var dst *index.Index
	if !old.Absent {
		var theirs map[oci.Digest]oci.Platform
		if dst, theirs, err = w.list(ctx, tag, old.Content); err != nil {
			return a, err
		}
		maps.Copy(opt.Platforms, theirs)
	}
	res, err := index.Merge(src, dst, opt)
	if err != nil {
		return a, oci.Wrap(err, "add platforms to", tag.String(), oci.Descriptor{})
	}
	if a.take(res); a.Desc.Digest == src.Desc.Digest {
		a.Status = Pushed
	}
	return a, w.complete(ctx, tag, old, a, res.Entries)
}

// complete returns an error if the repository lacks an entry of what tag is to mean.
func (w *archWork) complete(ctx context.Context, tag oci.Ref, old state, a aim, entries []oci.Descriptor) error {
	if a.Desc.Digest == old.digest() {
		return nil
	}
	_, err := w.bring(ctx, tag, tag, entries, nil)
	return err
}

// addSingle lets tag mean the single image that source is, if it is asked for.
func (w *archWork) addSingle(ctx context.Context, tag oci.Ref, old state) (aim, error) {
	p, err := w.single(ctx, w.source, w.from)
	if err != nil || !w.opt.about(p) {
		a, _ := w.leave(tag, old, fmt.Sprintf("%s is none of the platforms that are to be added", w.source.String()))
		return a, err
	}
	return aim{Content: w.from, Status: Pushed}, nil
}

// single gives the platform of the single image c, of ref.
func (w *archWork) single(ctx context.Context, ref oci.Ref, c Content) (oci.Platform, error) {
	repo, err := w.dest(ref)
	if err != nil {
		return oci.Platform{}, err
	}
	p, err := configPlatform(ctx, repo, c)
	return p, oci.Wrap(err, "read the platform of", ref.String(), c.Desc)
}

// takeAway takes platforms from the list that tag is.
func (w *archWork) takeAway(ctx context.Context, tag oci.Ref, old state) (aim, error) {
	a := aim{Status: Merged}
	ix, known, err := w.list(ctx, tag, old.Content)
	if err != nil {
		return a, err
	}
	var same map[oci.Digest]bool // nil: no source, all count
	if w.source != (oci.Ref{}) {
		src, err := index.Parse(w.from.Desc.MediaType, w.from.Raw)
		if err != nil {
			return a, oci.Wrap(err, "read the list of", w.source.String(), w.from.Desc)
		}
		same = digests(src.Entries)
	}
	kept, removed := 0, 0
	keep := func(d oci.Descriptor) bool { // with the platform that counts, nil if nobody knows
		if d.Platform == nil || !w.opt.about(*d.Platform) || same != nil && !same[d.Digest] {
			kept++
			return true
		}
		removed++
		return false
	}
	res, err := index.Filter(ix, keep, index.Options{StrictOSVersion: w.opt.StrictOSVersion, Type: w.opt.Type, Style: w.opt.Style, Platforms: known})
	if err != nil {
		return a, oci.Wrap(err, "remove platforms from", tag.String(), oci.Descriptor{})
	}
	if removed == 0 {
		return w.leave(tag, old, "it has nothing that is to be removed")
	}
	if a.take(res); kept == 0 {
		a.Content = Content{}
		return a, nil
	}
	return a, w.complete(ctx, tag, old, a, res.Entries)
}

// takeAwaySingle deletes a tag whose single image is to be removed.
func (w *archWork) takeAwaySingle(ctx context.Context, tag oci.Ref, old state) (aim, error) {
	p, err := w.single(ctx, tag, old.Content)
	if err != nil {
		return aim{Content: old.Content}, err
	}
	if !w.opt.about(p) || w.source != (oci.Ref{}) && w.from.Desc.Digest != old.digest() {
		return w.leave(tag, old, "it is not what is to be removed")
	}
	return aim{Platforms: []Platform{{Platform: index.Name(index.Normalize(p)), Action: string(index.Dropped), Old: old.digest()}}}, nil
}
