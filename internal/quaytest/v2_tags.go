package quaytest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// v2PageSize is the default and the most of V2 listings.
const v2PageSize = 100

// listTags is GET /v2/R/tags/list: section 6.1 of the contract.
func (c *v2Call) listTags() {
	q := c.r.URL.Query()
	n := v2PageSize
	if asked, err := strconv.Atoi(q.Get("n")); err == nil {
		n = min(asked, v2PageSize)
	}
	c.s.mu.Lock()
	names := c.s.tagNames(c.repo)
	c.s.mu.Unlock()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(names, last)
		if found {
			i++
		}
		names = names[i:]
	}
	page := names[:min(max(n, 0), len(names))]
	if n > 0 && len(page) < len(names) {
		c.w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, c.path.name, n, url.QueryEscape(page[len(page)-1])))
	}
	if page == nil {
		page = []string{}
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"name": c.full, "tags": page})
}

// tagNames gives the names of r's living tags, which may be as old as the
// cache: pushes don't reset it, deletes do.
func (s *Server) tagNames(r *repository) []string {
	now := s.now()
	if !r.listedAt.IsZero() && now.Sub(r.listedAt) < s.opt.TagCache {
		return r.listed
	}
	names := map[string]bool{}
	for _, t := range s.visibleTags(r, true) {
		names[t.Name] = true
	}
	r.listed, r.listedAt = slices.Sorted(maps.Keys(names)), now
	return r.listed
}
