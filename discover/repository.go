package discover

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// matches are what one repository has for a query.
type matches struct {
	tags []quay.Tag // by name
	// companions are cosign's tags that the listing showed of tags' digests and
	// that are not among tags.
	companions int
}

// find gives the matches of the repository name.
func (s *survey) find(ctx context.Context, name string) (matches, error) {
	listed, err := s.tags(ctx, name)
	if err != nil {
		return matches{}, err
	}
	var m matches
	taken := map[string]bool{}
	known := map[oci.Digest]bool{} // whether a manifest has the labels
	for _, t := range newestFirst(listed) {
		// A tag that moves between two pages may be listed twice: only what it is
		// now counts.
		if taken[t.Name] {
			continue
		}
		if taken[t.Name] = true; !s.im.query.wantsTag(name, t) {
			continue
		}
		t, ok, err := s.labelled(ctx, name, t, known)
		if err != nil {
			return matches{}, err
		}
		if ok {
			m.tags = append(m.tags, t)
		}
		if n := s.im.query.latest; n > 0 && len(m.tags) == n {
			break
		}
	}
	slices.SortFunc(m.tags, func(a, b quay.Tag) int { return strings.Compare(a.Name, b.Name) })
	m.companions = companions(listed, m.tags)
	return m, nil
}

// tags lists the tags of the repository name, as many as can matter.
func (s *survey) tags(ctx context.Context, name string) ([]quay.Tag, error) {
	q, path := s.im.query, s.im.query.repository(name)
	if q.exact() {
		t, err := s.im.client.Tag(ctx, path, q.tag)
		switch {
		case quay.NotVisible(err):
			return nil, err
		case errors.Is(err, oci.ErrNotFound):
			return nil, nil
		case errors.Is(err, oci.ErrInvalid):
			s.skip(err)
			return nil, nil
		}
		return []quay.Tag{t}, err
	}
	var all []quay.Tag
	for page, err := range s.im.client.TagPages(ctx, path, quay.TagOptions{Skipped: s.skip}) {
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); s.enough(name, all) {
			break
		}
	}
	return all, nil
}

// enough reports whether no older tag than those listed can match. Quay lists
// the newest first; if this one doesn't, there never is enough.
func (s *survey) enough(name string, listed []quay.Tag) bool {
	byAge := func(a, b quay.Tag) int { return b.Start.Compare(a.Start) }
	if len(listed) == 0 || !slices.IsSortedFunc(listed, byAge) {
		return false
	}
	q, oldest := s.im.query, listed[len(listed)-1].Start
	if oldest.Before(q.period.since) {
		return true
	}
	if q.latest == 0 || len(q.labels) > 0 {
		return false
	}
	n := 0
	for _, t := range listed {
		// One of the same second may come with the next page and be first by name.
		if t.Start.After(oldest) && q.wantsTag(name, t) {
			n++
		}
	}
	return n >= q.latest
}

// newestFirst sorts by start, then by name.
func newestFirst(tags []quay.Tag) []quay.Tag {
	return slices.SortedFunc(slices.Values(tags), func(a, b quay.Tag) int {
		return cmp.Or(b.Start.Compare(a.Start), strings.Compare(a.Name, b.Name))
	})
}

// companions counts cosign's tags among listed that belong to a digest of
// matched and are not matched themselves.
func companions(listed, matched []quay.Tag) int {
	subjects, carried := map[oci.Digest]bool{}, map[string]bool{}
	for _, t := range matched {
		subjects[t.Digest] = true
		carried[t.Name] = true
	}
	n := 0
	for _, t := range listed {
		if d, _, ok := companion.ParseTag(t.Name); ok && subjects[d] && !carried[t.Name] {
			n++
			carried[t.Name] = true
		}
	}
	return n
}
