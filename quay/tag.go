package quay

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A Tag is one entry of a repository's tags: a name that was on a digest for
// some time.
type Tag struct {
	Name      string
	Digest    oci.Digest // of the manifest
	Start     time.Time  // when the name was set to Digest, UTC, resolution one second
	End       time.Time  // when that ends or ended; zero for never
	IsIndex   bool
	Size      int64 // compressed bytes of the layers; -1 if Quay doesn't know, as for every index
	Reversion bool  // the entry was made by a restore
	Immutable bool
}

// TagOptions say what [Client.Tags] lists. The zero value lists what lives.
type TagOptions struct {
	// History lists also what was: deleted, moved and expired entries. One
	// name may then stand many times.
	History bool
	Name    string // only this tag; "" means all
	// Skipped is told of each entry that was left out, by an error that
	// matches [oci.ErrInvalid]. nil: nobody is.
	Skipped func(error)
}

// tagsPerPage is the most that Quay gives.
const tagsPerPage = 100

// Tags lists the tags of repo ("namespace/name"), newest first, then by name;
// what was set while it was listed may come last.
// Entries that ended, by the server's clock, are left out unless history is
// asked for.
//
// Errors after the first page match [oci.ErrIncomplete]. [NotVisible] tells the
// error of a repository that isn't there or isn't the token's to see.
//
// Source: GET /api/v1/repository/{repository}/tag/.
func (c *Client) Tags(ctx context.Context, repo string, opt TagOptions) iter.Seq2[Tag, error] {
	return func(yield func(Tag, error) bool) {
		for page, err := range c.TagPages(ctx, repo, opt) {
			if err != nil {
				yield(Tag{}, err)
				return
			}
			for _, t := range page {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

// TagPages is [Client.Tags] by page of up to 100 entries: the next page is
// requested when the caller asks for it. A page may be empty.
func (c *Client) TagPages(ctx context.Context, repo string, opt TagOptions) iter.Seq2[[]Tag, error] {
	return func(yield func([]Tag, error) bool) {
		if err := c.tagPages(ctx, repo, opt, yield); err != nil {
			yield(nil, oci.Wrap(err, "list tags of", c.ref(repo), oci.Descriptor{}))
		}
	}
}

func (c *Client) tagPages(ctx context.Context, repo string, opt TagOptions, yield func([]Tag, error) bool) error {
	if _, _, err := splitRepository(repo); err != nil {
		return err
	}
	type entry struct {
		name   string
		digest oci.Digest
		start  time.Time
	}
	seen := map[entry]bool{}
	shifted, again := false, false // entries came twice; the second reading
	listed := 0                    // entries, those left out too
	for page := 1; ; page++ {
		tags, more, n, err := c.tagPage(ctx, repo, opt, page, tagsPerPage)
		if err != nil {
			return incomplete(err, page)
		}
		var fresh []Tag
		for _, t := range tags {
			// Pages are offsets: a push in between moves entries to the next.
			if e := (entry{t.Name, t.Digest, t.Start}); !seen[e] {
				seen[e] = true
				fresh = append(fresh, t)
			}
		}
		if !yield(fresh, nil) {
			return nil
		}
		shifted = shifted || len(fresh) < len(tags)
		if again && shifted { // what is behind a known entry is known
			return nil
		}
		if len(fresh) == 0 && len(tags) > 0 && (more || n >= tagsPerPage) {
			return loop(page, "the server gives the same tags again")
		}
		if !more || n == 0 {
			if !shifted {
				return nil
			}
			// What was pushed in between is on a page that was read before, and
			// was on one to come if it moved.
			again, shifted, page = true, false, 0
			continue
		}
		if listed += n; listed > maxListing {
			return fmt.Errorf("%w: over %d tags: %w", oci.ErrIncomplete, maxListing, oci.ErrTooLarge)
		}
	}
}

// tagPage fetches one page. n is the number of entries that it had, those left
// out included.
func (c *Client) tagPage(ctx context.Context, repo string, opt TagOptions, page, limit int) (tags []Tag, more bool, n int, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if page > 1 {
		q.Set("page", strconv.Itoa(page))
	}
	if !opt.History {
		q.Set("onlyActiveTags", "true")
	}
	if opt.Name != "" {
		q.Set("specificTag", opt.Name)
	}
	// The slash at the end is part of the path: without it Quay redirects.
	r := request{path: apiPath("repository", repo, "tag", ""), query: q}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, false, 0, err
	}
	p, err := decodeTags(r, a)
	if err != nil {
		return nil, false, 0, err
	}
	for _, raw := range *p.Tags {
		t, err := raw.tag()
		if err == nil && opt.Name != "" && t.Name != opt.Name {
			err = fmt.Errorf("%w: tag %q where %q was asked for", oci.ErrInvalid, t.Name, opt.Name)
		}
		// Only an end that has come is one; others are expiries to come.
		dead := !t.End.IsZero() && !t.End.After(a.date)
		switch {
		case err != nil && opt.Skipped != nil:
			opt.Skipped(fmt.Errorf("%s: %w", repo, err))
		case err == nil && (opt.History || !dead):
			tags = append(tags, t)
		}
	}
	return tags, p.More, len(*p.Tags), nil
}

// Tag gives the tag name of repo as it is now, by one request. It returns an
// error matching [oci.ErrNotFound] if the repository has no such tag, and
// [oci.ErrInvalid] if Quay's entry can't be; [NotVisible] tells the repository
// that isn't visible.
//
// Source: GET /api/v1/repository/{repository}/tag/?specificTag=…
func (c *Client) Tag(ctx context.Context, repo, name string) (Tag, error) {
	t, err := c.tag(ctx, repo, name)
	return t, oci.Wrap(err, "read tag", c.ref(repo)+":"+name, oci.Descriptor{})
}

func (c *Client) tag(ctx context.Context, repo, name string) (Tag, error) {
	if _, _, err := splitRepository(repo); err != nil {
		return Tag{}, err
	}
	if !oci.ValidTag(name) {
		return Tag{}, oci.Usage(fmt.Sprintf("%q is no tag", name))
	}
	var skipped error
	tags, _, _, err := c.tagPage(ctx, repo, TagOptions{Name: name, Skipped: func(err error) { skipped = err }}, 1, 1)
	switch {
	case err != nil:
		return Tag{}, err
	case len(tags) > 0:
		return tags[0], nil
	case skipped != nil:
		return Tag{}, skipped
	}
	return Tag{}, oci.ErrNotFound
}

// The wire form of Quay's tags.
type (
	tagPage struct {
		Tags *[]rawTag `json:"tags"`
		More bool      `json:"has_additional"`
	}
	rawTag struct {
		Name      string  `json:"name"`
		Digest    string  `json:"manifest_digest"`
		Start     integer `json:"start_ts"`
		End       integer `json:"end_ts"` // only if one is set
		IsIndex   bool    `json:"is_manifest_list"`
		Size      integer `json:"size"` // null for an index
		Reversion bool    `json:"reversion"`
		Immutable bool    `json:"immutable"`
	}
)

func decodeTags(r request, a answer) (tagPage, error) {
	var p tagPage
	if err := a.decode(r, &p); err != nil {
		return p, err
	}
	if p.Tags == nil {
		return p, fmt.Errorf("%s: %w: it has no tags", r, ErrNotQuay)
	}
	return p, nil
}

func (raw rawTag) tag() (Tag, error) {
	t := Tag{
		Name: raw.Name, Digest: oci.Digest(raw.Digest), Start: raw.Start.time(), End: raw.End.time(),
		IsIndex: raw.IsIndex, Size: -1, Reversion: raw.Reversion, Immutable: raw.Immutable,
	}
	if raw.Size.set && raw.Size.n >= 0 && !raw.IsIndex {
		t.Size = raw.Size.n
	}
	if !oci.ValidTag(t.Name) {
		return t, fmt.Errorf("%w: %q is no tag", oci.ErrInvalid, t.Name)
	}
	if err := oci.ValidDigest(t.Digest); err != nil {
		return t, fmt.Errorf("tag %s: %w", t.Name, err)
	}
	return t, nil
}
