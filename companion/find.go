package companion

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// A Place is a repository that companions are looked for in.
type Place interface {
	oci.Source
	oci.TagLister
	oci.ReferrerLister
}

const (
	// maxDepth bounds companions of companions: the signature of an attestation is
	// at 2. A registry that makes up another each time would have no end.
	maxDepth = 8
	// maxFound bounds what one search finds, and so what it asks; for each subject
	// it may be perSubject more.
	maxFound   = 10_000
	perSubject = 100
)

// Find gives the companions of subjects in place, those of the companions as well,
// until there are no more; each once, in the order in which they were found,
// subjects before what is about them. A referrer that is itself among subjects, or
// was found by its tag, isn't given again.
//
// listed are the place's tags if they are known, else nil: then Find asks for what
// it needs, tag by tag (HEAD) or by the list, whichever is less. Each digest's
// referrers are asked for once; a place without referrers has none.
//
// What was found comes with an error too, which means that there may be more: the
// place's, or one that matches [oci.ErrTooLarge] where there is no end to it.
func Find(ctx context.Context, place Place, subjects []oci.Digest, listed []string) ([]Companion, error) {
	f := Finder{Place: place, Listed: listed}
	return f.Find(ctx, subjects)
}

// Find is the function [Find] with what earlier calls have learnt of the place.
func (f *Finder) Find(ctx context.Context, subjects []oci.Digest) ([]Companion, error) {
	s := search{seen: map[oci.Digest]bool{}, room: maxFound + perSubject*len(subjects)}
	var level []oci.Digest
	for _, d := range subjects {
		if s.isNew(d) {
			level = append(level, d)
		}
	}
	for depth := 1; len(level) > 0; depth++ {
		answers, err := f.ask(ctx, level, s.room-len(s.found))
		level = s.take(answers)
		switch {
		case err != nil:
			return s.found, err
		case len(s.found) > s.room:
			return s.found, tooMany(s.room)
		case depth == maxDepth && len(level) > 0:
			return s.found, fmt.Errorf("companions of companions: %w (limit %d)", oci.ErrTooLarge, maxDepth)
		}
	}
	return s.found, nil
}

func tooMany(limit int) error {
	return fmt.Errorf("companions: %w (limit %d)", oci.ErrTooLarge, limit)
}

// A search is one call of Find.
type search struct {
	seen  map[oci.Digest]bool // subjects, and what was found
	found []Companion
	room  int // how many may be found
}

// take enters what was found, and gives the digests that are new. A tag
// counts also where its manifest is known: it is a name of its own.
func (s *search) take(all []Companion) []oci.Digest {
	var next []oci.Digest
	for _, c := range all {
		isNew := s.isNew(c.Desc.Digest)
		if isNew {
			next = append(next, c.Desc.Digest)
		}
		if isNew || c.Tag != "" {
			s.found = append(s.found, c)
		}
	}
	return next
}

func (s *search) isNew(d oci.Digest) bool {
	before := s.seen[d]
	s.seen[d] = true
	return !before
}
