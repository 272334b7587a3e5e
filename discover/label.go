package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A label is a key that an image has, with a value or with any.
type label struct {
	key, value string
	valued     bool
}

// readLabels reads the options label=KEY and label=KEY=VALUE.
func readLabels(u backend.URI) ([]label, error) {
	var labels []label
	for _, v := range u.OptionAll("label") {
		var l label
		l.key, l.value, l.valued = strings.Cut(v, "=")
		if l.key == "" {
			return nil, oci.Usage(fmt.Sprintf("%s: label=%s: write label=KEY or label=KEY=VALUE", u, v))
		}
		labels = append(labels, l)
	}
	return labels, nil
}

// attestation is the annotation by which an index marks entries that are no images.
const attestation = "vnd.docker.reference.type"

// labelled reports whether t has the labels of the query. The manifest of a tag
// that moved since it was listed may be gone; then the tag is read again, and
// given as it is now.
func (s *survey) labelled(ctx context.Context, name string, t quay.Tag, known map[oci.Digest]bool) (quay.Tag, bool, error) {
	q, path := s.im.query, s.im.query.repository(name)
	if len(q.labels) == 0 {
		return t, true, nil
	}
	ok, err := s.hasLabels(ctx, path, t.Digest, t.IsIndex, known, 0)
	if errors.Is(err, oci.ErrNotFound) {
		old := t.Digest
		if t, err = s.im.client.Tag(ctx, path, t.Name); quay.NotVisible(err) {
			return t, false, err
		}
		if errors.Is(err, oci.ErrNotFound) || err == nil && (t.Digest == old || !q.wantsTag(name, t)) {
			return t, false, nil
		}
		if err == nil {
			if ok, err = s.hasLabels(ctx, path, t.Digest, t.IsIndex, known, 0); errors.Is(err, oci.ErrNotFound) {
				return t, false, nil // it doesn't keep still; what it is now nobody knows
			}
		}
	}
	return t, ok, err
}

// hasLabels reports whether an image has all labels of the query; known says
// what is known of manifests and learns. An index has none of its own: it has
// them if one of its images has, linux/amd64 asked first. Entries that Quay
// doesn't have, as of sparse indexes, have none.
func (s *survey) hasLabels(ctx context.Context, path string, d oci.Digest, isIndex bool, known map[oci.Digest]bool, depth int) (ok bool, err error) {
	if ok, hit := known[d]; hit {
		return ok, nil
	}
	defer func() {
		// What isn't there is asked for again as a tag, which may have moved,
		// and not as the entry of an index.
		if err == nil || depth > 0 && errors.Is(err, oci.ErrNotFound) {
			known[d] = ok
		}
	}()
	if !isIndex {
		labels, err := s.im.client.Labels(ctx, path, d)
		return s.im.query.wantsLabels(labels), err
	}
	const deepest = 3 // indexes of indexes are rare, and never end by themselves
	children, err := s.im.client.Children(ctx, path, d)
	if err != nil || depth == deepest {
		return false, err
	}
	for _, c := range usualFirst(children) {
		if c.Annotations[attestation] != "" {
			continue
		}
		ok, err := s.hasLabels(ctx, path, c.Digest, oci.IsIndexType(c.MediaType), known, depth+1)
		if ok || err != nil && !errors.Is(err, oci.ErrNotFound) {
			return ok, err
		}
	}
	return false, nil
}

// usualFirst puts linux/amd64 in front: labels seldom differ by platform.
func usualFirst(children []oci.Descriptor) []oci.Descriptor {
	rank := func(d oci.Descriptor) int {
		if p := d.Platform; p != nil && p.OS == "linux" && p.Architecture == "amd64" {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(children), func(a, b oci.Descriptor) int { return rank(a) - rank(b) })
}

// wantsLabels reports whether labels has each that the query asks for. A key
// may stand more than once; any of its values will do.
func (q query) wantsLabels(labels []quay.Label) bool {
	for _, want := range q.labels {
		if !slices.ContainsFunc(labels, func(l quay.Label) bool {
			return l.Key == want.key && (!want.valued || l.Value == want.value)
		}) {
			return false
		}
	}
	return true
}
