package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// maxTags bounds one listing, so that a registry that makes up names for ever
// doesn't fill the memory.
const maxTags = 1 << 20

// Tags implements [oci.TagLister], by pages of as many as the registry gives. What
// can't be a tag is left out, with a word to the user. Quay's answer may be two
// minutes old.
//
// The sequence ends after its first error. Of the first page it matches
// [oci.ErrNotFound] or [oci.ErrDenied] where that is what the registry says; any
// later one, a listing that leads in circles too, matches [oci.ErrIncomplete].
func (r *repo) Tags(ctx context.Context) iter.Seq2[string, error] { return r.tags(ctx, false) }

// AllTags is Tags for who has to know all tags: a name that can't be one ends it
// with an error matching [oci.ErrInvalid].
func (r *Repository) AllTags(ctx context.Context) iter.Seq2[string, error] { return r.tags(ctx, true) }

func (r *repo) tags(ctx context.Context, strict bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		l := tagListing{repo: r, strict: strict, seen: map[string]bool{}, yield: yield}
		// Docker Hub and Quay give 100 at most, most others as many as are asked for.
		err := r.pages(ctx, "/tags/list?n=1000", "application/json", maxPage, l.take)
		if l.odd > 0 {
			r.warn("%s lists %d names that can't be tags, such as %q; they are left out", r.ref.Name(), l.odd, l.example)
		}
		if err != nil {
			yield("", oci.Wrap(err, "list tags of", r.ref.Name(), oci.Descriptor{}))
		}
	}
}

// A tagListing is one pass over the tags of a repository.
type tagListing struct {
	*repo
	strict  bool // about names that are no tags
	seen    map[string]bool
	yield   func(string, error) bool
	odd     int // such names
	example string
}

func (l *tagListing) take(_ http.Header, body []byte) (all, fresh int, done bool, err error) {
	names, err := decodeTags(body)
	if err != nil {
		return 0, 0, false, fmt.Errorf("%w: %s answered no list of tags: %w", oci.ErrInvalid, l.host, err)
	}
	for _, name := range names {
		if l.seen[name] {
			continue
		}
		if len(l.seen) == maxTags {
			return 0, 0, false, fmt.Errorf("%w: over %d tags: %w", oci.ErrIncomplete, maxTags, oci.ErrTooLarge)
		}
		l.seen[name] = true
		fresh++
		if !oci.ValidTag(name) {
			if l.strict {
				return 0, 0, false, fmt.Errorf("%w: %s lists %q, which can't be a tag", oci.ErrInvalid, l.host, transport.Text(name, 60))
			}
			if l.odd++; l.odd == 1 {
				l.example = transport.Text(name, 60)
			}
			continue
		}
		if !l.yield(name, nil) {
			return 0, 0, true, nil
		}
	}
	return len(names), fresh, false, nil
}

// decodeTags reads a page. null is no tags; but what has no tags at all is no page,
// and must not be taken for a repository without any.
func decodeTags(body []byte) (names []string, err error) {
	var page struct {
		Tags json.RawMessage `json:"tags"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, err
	}
	if page.Tags == nil {
		return nil, errors.New("it has no tags")
	}
	return names, json.Unmarshal(page.Tags, &names)
}
