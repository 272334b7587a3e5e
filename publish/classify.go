package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// classify says what an item is whose source means from: what the plan says, or what
// its manifest shows. A list is multiarch in either family. Of whether a single
// manifest holds source code only the plan knows.
func classify(item PlanItem, from Content) (Kind, error) {
	list := oci.IsIndexType(from.Desc.MediaType)
	switch {
	case item.Kind == Multiarch && !list:
		return "", fmt.Errorf("%w: the plan says multiarch, and it is a single manifest, %s", oci.ErrInvalid, from.Desc.MediaType)
	case item.Kind != "":
		return item.Kind, nil
	case list:
		return Multiarch, nil
	}
	return Single, nil
}

// classifyAll reads the sources of all items, each once.
func (s *push) classifyAll(ctx context.Context) error {
	return s.each(ctx, func(ctx context.Context, i *pushItem) error {
		repo, err := s.source(i.Source)
		if err != nil {
			return err
		}
		var from Content
		if from.Desc, from.Raw, err = repo.Resolve(ctx, i.Source.Reference()); err != nil {
			return err
		}
		i.report.identify(i.Source, from)
		if i.kind, err = classify(i.PlanItem, from); err != nil {
			return err
		}
		i.from, i.report.Kind = from, i.kind
		if i.kind == Single && s.opt.DisallowSingle {
			return oci.Refuse(fmt.Sprintf("%s is a single image, which this push doesn't allow", i.Source))
		}
		return nil
	})
}

// requireAll asks that each tag is there in the place where it has to be before.
func (s *push) requireAll(ctx context.Context) error {
	if s.opt.RequireExistsIn == "" {
		return nil
	}
	return s.eachDest(ctx, func(ctx context.Context, _ *pushItem, d *pushDest) error {
		ref, err := requiredRef(s.opt.RequireExistsIn, d.Destination)
		if err != nil {
			return err
		}
		open := s.source
		if ref.Registry == d.Registry { // who may push there had better see its stage
			open = s.dest
		}
		repo, err := open(ref)
		if err != nil {
			return err
		}
		_, err = repo.Head(ctx, ref.Tag)
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) { // what can't be seen doesn't count as there
			return oci.Refuse(fmt.Sprintf("%s has to exist before %s is pushed: %v", ref, d.Ref, err))
		}
		return err
	})
}

// requiredRef gives the tag that has to exist under prefix for d to be pushed.
func requiredRef(prefix string, d Destination) (oci.Ref, error) {
	return oci.ParseRef(prefix+"/"+d.Path+":"+d.Tag, "")
}
