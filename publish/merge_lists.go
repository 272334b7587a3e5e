package publish

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// lists gives the lists that are to be merged: source's, and that of what is there,
// nil if its entries don't count. No list of source means that the tag is to have
// from as it is. What single images make of that is said in a.
func (r *run) lists(ctx context.Context, source oci.Ref, from Content, old state, dest oci.Ref, opt MergeOptions, a *aim) (src, dst *index.Index, err error) {
	fromList, oldList := oci.IsIndexType(from.Desc.MediaType), oci.IsIndexType(old.Desc.MediaType)
	same := from.Desc.Digest == old.digest()
	switch {
	case fromList:
		src, err = index.Parse(from.Desc.MediaType, from.Raw)
		err = oci.Wrap(err, "read the list of", source.String(), from.Desc)
	case old.Absent || same || !opt.PromoteSingle:
		err = r.chosen(ctx, source, from, opt)
	default:
		src, err = r.promote(ctx, source, from, opt, r.source)
	}
	if err != nil {
		return nil, nil, err
	}
	switch {
	case old.Absent:
	case oldList && src != nil:
		dst, err = index.Parse(old.Desc.MediaType, old.Raw)
	case oldList:
		var lost *index.Index
		if lost, err = index.Parse(old.Desc.MediaType, old.Raw); err == nil {
			a.overwrite(source, dest, lost)
		}
	case opt.PromoteSingle && src != nil:
		dst, err = r.promote(ctx, dest, old.Content, opt, r.dest)
	case !same:
		a.Warnings = append(a.Warnings, fmt.Sprintf("%s is no list of platforms: it is overwritten", dest.Tagged()))
	}
	if err != nil {
		return nil, nil, oci.Wrap(err, "read the list of", dest.String(), old.Desc)
	}
	return src, dst, nil
}

// overwrite says what is lost where a single image takes the place of lost.
func (a *aim) overwrite(source, dest oci.Ref, lost *index.Index) {
	names := a.drop(lost)
	a.Warnings = append(a.Warnings, fmt.Sprintf("%s is a single image: it takes the place of the list that %s is, of %s", source.String(), dest.Tagged(), strings.Join(names, ", ")))
}

// drop enters the platforms of lost as dropped, and gives their names.
func (a *aim) drop(lost *index.Index) (names []string) {
	for _, d := range lost.Entries {
		if _, about := index.Attests(d); about || d.Platform == nil {
			continue
		}
		name := index.Name(index.Normalize(*d.Platform))
		names = append(names, name)
		a.Platforms = append(a.Platforms, Platform{Platform: name, Action: string(index.Dropped), Old: d.Digest})
	}
	return names
}

// chosen returns an error unless opt selects the platform of the single image from.
func (r *run) chosen(ctx context.Context, source oci.Ref, from Content, opt MergeOptions) error {
	if opt.Select.all() {
		return nil
	}
	repo, err := r.source(source)
	if err != nil {
		return err
	}
	p, err := configPlatform(ctx, repo, from)
	if err != nil {
		return oci.Wrap(err, "read the platform of", source.String(), from.Desc)
	}
	if !opt.Select.chooses(p) {
		return noneChosen(source)
	}
	return nil
}

// refuses returns an error where the entries of the list from say that o selects
// none of them. Single images, and entries that don't say what they are, are judged
// when the lists are made.
func (o MergeOptions) refuses(source oci.Ref, from Content) error {
	if o.Select.all() || !oci.IsIndexType(from.Desc.MediaType) {
		return nil
	}
	list, err := index.Parse(from.Desc.MediaType, from.Raw)
	switch {
	case err != nil:
		return oci.Wrap(err, "read the list of", source.String(), from.Desc)
	case len(list.Unsaid()) == 0 && !list.Eligible(o.index()):
		return noneChosen(source)
	}
	return nil
}

func noneChosen(source oci.Ref) error {
	return oci.Usage(fmt.Sprintf("%s has none of the platforms that were asked for", source.String()))
}

// promote makes a list of the single image that ref means.
func (r *run) promote(ctx context.Context, ref oci.Ref, image Content, opt MergeOptions, open func(oci.Ref) (*registry.Repository, error)) (*index.Index, error) {
	repo, err := open(ref)
	if err != nil {
		return nil, err
	}
	p, err := configPlatform(ctx, repo, image)
	if err != nil {
		return nil, oci.Wrap(err, "make a list of", ref.String(), oci.Descriptor{})
	}
	return index.Wrap(image.Desc, p, opt.index())
}

// knowing gives o with the platforms that entries of either list don't say.
func (r *run) knowing(ctx context.Context, source oci.Ref, src *index.Index, dest oci.Ref, dst *index.Index, o index.Options) (index.Options, error) {
	from, err := r.source(source)
	if err != nil {
		return o, err
	}
	to, err := r.dest(dest)
	if err != nil {
		return o, err
	}
	if o.Platforms, err = r.platforms(ctx, from, src); err != nil {
		return o, err
	}
	theirs, err := r.platforms(ctx, to, dst)
	maps.Copy(o.Platforms, theirs)
	return o, err
}

// take makes a of what a merge gave.
func (a *aim) take(res *index.Result) {
	a.Content = Content{res.Desc, res.Raw}
	a.Warnings = append(a.Warnings, res.Warnings...)
	for _, c := range res.Changes {
		a.Platforms = append(a.Platforms, Platform{Platform: index.Name(c.Platform), Action: string(c.Action), Old: c.Old, New: c.New})
	}
}

// digests gives the digests of entries as a set.
func digests(entries []oci.Descriptor) map[oci.Digest]bool {
	set := make(map[oci.Digest]bool, len(entries))
	for _, d := range entries {
		set[d.Digest] = true
	}
	return set
}
