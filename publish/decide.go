package publish

import (
	"context"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// A workflow is how a tag gets what it is to mean.
type workflow int

const (
	simple  workflow = iota // it means the source
	merging                 // it means a list of the source's and its own platforms
	nothing                 // it means the source already
)

// decide says how a tag that means old gets what the item has. Only the list of a
// multiarch item is merged, into a list that has platforms which the source lacks.
func (s *push) decide(i *pushItem, dest oci.Ref, old state) (workflow, aim, error) {
	to := aim{Content: i.from, Status: Pushed}
	promote := s.opt.PromoteSingle && s.opt.Merge != MergeNever && i.kind != SourceImage
	fromList, oldList := oci.IsIndexType(i.from.Desc.MediaType), oci.IsIndexType(old.Desc.MediaType)
	switch {
	case old.digest() == i.from.Desc.Digest:
		return nothing, to, nil
	case old.Absent:
		return simple, to, nil
	case i.kind != Multiarch && !(promote && i.kind == Single && !fromList):
		if !oldList {
			return simple, to, nil
		}
		lost, err := index.Parse(old.Desc.MediaType, old.Raw)
		switch {
		case err != nil:
			err = oci.Wrap(err, "read the list of", dest.Tagged(), old.Desc)
		case fromList:
			err = s.displace(i, dest, lost, &to)
		default:
			to.overwrite(i.Source, dest, lost)
		}
		return simple, to, err
	case !oldList && !promote:
		to.Warnings = append(to.Warnings, fmt.Sprintf("%s doesn't have a manifest list: it is overwritten", dest.Tagged()))
		return simple, to, nil
	case s.opt.Merge == MergeNever:
		return simple, to, nil
	case !oldList || !fromList:
		return merging, to, nil
	}
	return s.compare(i, dest, old, to)
}

// compare decides between two lists.
func (s *push) compare(i *pushItem, dest oci.Ref, old state, to aim) (workflow, aim, error) {
	src, err := index.Parse(i.from.Desc.MediaType, i.from.Raw)
	if err != nil {
		return simple, to, oci.Wrap(err, "read the list of", i.Source.String(), i.from.Desc)
	}
	dst, err := index.Parse(old.Desc.MediaType, old.Raw)
	if err != nil {
		return simple, to, oci.Wrap(err, "read the list of", dest.Tagged(), old.Desc)
	}
	// Entries that don't say their platform count as ones that the source lacks:
	// the merge itself reads what they are.
	made, err := index.Merge(src, dst, index.Options{StrictOSVersion: s.opt.StrictOSVersion})
	if err != nil {
		return simple, to, oci.Wrap(err, "merge", i.Source.String(), oci.Descriptor{})
	}
	if made.Desc.Digest == src.Desc.Digest {
		return simple, to, nil
	}
	return merging, to, nil
}

// displace says in to what is lost where a list that isn't to be merged takes the place
// of lost.
func (s *push) displace(i *pushItem, dest oci.Ref, lost *index.Index, to *aim) error {
	src, err := index.Parse(i.from.Desc.MediaType, i.from.Raw)
	if err != nil {
		return oci.Wrap(err, "read the list of", i.Source.String(), i.from.Desc)
	}
	has := map[string]bool{}
	for _, d := range src.Entries {
		if d.Platform != nil {
			has[index.Key(*d.Platform, s.opt.StrictOSVersion)] = true
		}
	}
	only := &index.Index{}
	for _, d := range lost.Entries {
		if d.Platform == nil || !has[index.Key(*d.Platform, s.opt.StrictOSVersion)] {
			only.Entries = append(only.Entries, d)
		}
	}
	if names := to.drop(only); len(names) > 0 {
		to.Warnings = append(to.Warnings, fmt.Sprintf("%s isn't merged: it takes the place of the list that %s is, which alone has %s", i.Source.String(), dest.Tagged(), strings.Join(names, ", ")))
	}
	return nil
}

// settle decides for the tag d, which was looked at, and lets go of what nobody reads
// again: there may be thousands of tags.
func (s *push) settle(i *pushItem, d *pushDest) (err error) {
	if d.flow, d.aim, err = s.decide(i, d.Ref, d.old); err == nil && d.flow == simple {
		err = s.opt.Guard.fits(d.Ref, d.aim.Desc.Digest)
	}
	if d.flow != merging && !s.p.GuardOld {
		d.old.Raw = nil
	}
	return err
}

// aimAt gives what the tag d is to mean, now that it means old, and brings what that
// takes besides the item's own content.
func (s *push) aimAt(ctx context.Context, i *pushItem, d *pushDest, old state) (aim, error) {
	if old.digest() != d.old.digest() {
		var err error
		before := d.flow
		if d.flow, d.aim, err = s.decide(i, d.Ref, old); err != nil {
			return d.aim, err
		}
		d.old = old
		if before == merging && d.flow != merging { // the tag gets the source whole after all
			if err := s.accompany(ctx, i, d.repo); err != nil {
				return d.aim, err
			}
		}
	}
	if d.flow != merging {
		return d.aim, nil
	}
	m, err := s.merge(ctx, i.Source, i.from, old, d.Ref, s.opt.MergeOptions)
	d.aim = m.aim
	if err != nil {
		return m.aim, err
	}
	contents := m.copied
	if m.whole {
		contents = append([]Content{alone(i.from.Desc.Digest)}, contents...)
	}
	along, err := s.companions(ctx, i.Source, append(contents, d.repo.copied...), d.Ref)
	d.repo.along = addAlong(d.repo.along, along)
	return m.aim, err
}
