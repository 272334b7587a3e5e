package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// Spread opens the kind's destination u whose path is a [Template]: each image
// goes to the place that its name makes of it. It is an [oci.Spread]; the names
// that its Image takes are those at the source, with tag and digest. arch is
// what {arch} stands for. Places are opened when their first image comes, with u's options.
// Errors match [oci.ErrUsage] where u can't be such a path.
func (k Kind) Spread(ctx context.Context, u URI, env Env, arch string) (oci.Target, error) {
	if !k.Path || k.Target == nil {
		return nil, oci.Usage(fmt.Sprintf("%s: placeholders as {repo} are for paths, and %s:// has none", u, k.Scheme))
	}
	_, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	if ref != "" {
		return nil, oci.Usage(fmt.Sprintf("%s: with placeholders in the path the images keep their names; leave :%s away (a colon of the path is %%3A)", u, ref))
	}
	s := &spread{kind: k, uri: u, env: env, arch: arch, expected: map[string]int{}, open: map[string]*opened{}}
	if s.template, err = u.Template(); err != nil {
		return nil, err
	}
	// To open a place doesn't touch the disk, so the one of this name tells what
	// all of them are like.
	probe, err := k.Target(ctx, u, env)
	if err != nil {
		return nil, err
	}
	s.traits = probe.Traits()
	_, s.shelf = probe.(oci.Shelf)
	s.namer, _ = probe.(oci.Namer)
	return s, probe.Close()
}

type spread struct {
	kind     Kind
	uri      URI
	env      Env
	arch     string
	template Template
	traits   oci.Traits // of one place
	shelf    bool
	namer    oci.Namer // may be nil

	mu       sync.Mutex
	expected map[string]int // images by place
	open     map[string]*opened
}

// opened is a place, once it was asked for.
type opened struct {
	once   sync.Once
	target oci.Target
	err    error
}

// Traits are those of each place, only that there are many.
func (s *spread) Traits() oci.Traits {
	t := s.traits
	t.Many = true
	return t
}

// SharedBlobs makes it an [oci.Shelf], if the places are: of its own images each.
func (s *spread) SharedBlobs() bool { return s.shelf }

// Place implements [oci.Spread].
func (s *spread) Place(name oci.Ref) (string, error) {
	path, err := s.template.Path(Subject{Ref: name, Digest: name.Digest, Arch: s.arch})
	return s.kind.Scheme + "://" + EscapePath(path), err
}

// NameOf gives the name in its place; "" where a place takes one image.
func (s *spread) NameOf(name oci.Ref) string {
	switch {
	case !s.traits.Many:
		return ""
	case s.namer != nil:
		return s.namer.NameOf(within(name))
	}
	return within(name).String()
}

// within is what an image is called inside its place.
func within(name oci.Ref) oci.Ref {
	if name.Tag != "" {
		name.Digest = ""
	}
	return name
}

// Begin implements [oci.Spread].
func (s *spread) Begin(place string, images int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[place] = images
}

// Image opens the destination of name in its place.
func (s *spread) Image(ctx context.Context, name oci.Ref) (oci.Destination, error) {
	place, err := s.Place(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	o := s.open[place]
	if o == nil {
		o = &opened{}
		s.open[place] = o
	}
	images := s.expected[place]
	s.mu.Unlock()
	o.once.Do(func() {
		o.target, o.err = s.kind.Target(ctx, s.at(place), s.env)
		if u, ok := o.target.(interface{ UseUniqueNames() bool }); ok && images != 1 {
			u.UseUniqueNames()
		}
	})
	if o.err != nil {
		return nil, o.err
	}
	return o.target.Image(ctx, within(name))
}

// at gives the URI of place, with the options of all.
func (s *spread) at(place string) URI {
	u := s.uri
	u.raw, u.escaped = place, strings.TrimPrefix(place, s.kind.Scheme+"://")
	u.Rest = unescape(u.escaped)
	return u
}

// End implements [oci.Spread].
func (s *spread) End(ctx context.Context, place string, keep bool) error {
	s.mu.Lock()
	o := s.open[place]
	delete(s.open, place)
	delete(s.expected, place)
	s.mu.Unlock()
	if o == nil || o.target == nil {
		return nil
	}
	var err error
	if keep {
		err = o.target.Finish(ctx)
	}
	return oci.Wrap(errors.Join(err, o.target.Close()), "finish", place, oci.Descriptor{})
}

// Finish ends the places that End didn't.
func (s *spread) Finish(ctx context.Context) error { return s.endAll(ctx, true) }

// Close releases the places that weren't finished.
func (s *spread) Close() error { return s.endAll(context.Background(), false) }

func (s *spread) endAll(ctx context.Context, keep bool) error {
	s.mu.Lock()
	var places []string
	for place := range s.open {
		places = append(places, place)
	}
	s.mu.Unlock()
	var errs []error
	for _, place := range places {
		errs = append(errs, s.End(ctx, place, keep))
	}
	return errors.Join(errs...)
}
