package quaytest

import (
	"net/http"
	"strings"
)

const (
	findPerPage  = 10
	findMaxPages = 10
)

// findRepositories is GET /find/repositories. It matches parts of names.
func (c *apiCall) findRepositories() answer {
	page, err := c.integer("page", 1)
	if err != nil {
		return message(http.StatusBadRequest, map[string]any{"page": "The page."})
	}
	page = min(max(page, 1), findMaxPages)
	results := c.found(c.q.Get("query"))
	start := (page - 1) * findPerPage
	rows := []map[string]any{}
	more := false
	for i, row := range results {
		switch {
		case i < start:
		case len(rows) == findPerPage:
			more = page < findMaxPages
		default:
			rows = append(rows, row)
		}
	}
	return ok(map[string]any{"results": rows, "has_additional": more, "page": page, "page_size": findPerPage, "start_index": start})
}

// findAll is GET /find/all; it finds repositories only.
func (c *apiCall) findAll() answer {
	results := []map[string]any{}
	if q := c.q.Get("query"); q != "" {
		results = append(results, c.found(q)...)
		results = results[:min(len(results), findPerPage)]
	}
	return ok(map[string]any{"results": results})
}

func (c *apiCall) found(query string) (rows []map[string]any) {
	for _, r := range c.s.byID {
		if !r.Public && c.s.rights(c.who.user, r.fullName()) < read || !strings.Contains(r.fullName(), query) {
			continue
		}
		rows = append(rows, map[string]any{
			"kind": "repository", "title": "repo", "name": r.Name, "description": r.Description, "is_public": r.Public,
			"namespace": map[string]any{"title": "org", "kind": "organization", "name": r.Namespace, "href": "/organization/" + r.Namespace},
			"score":     1, "href": "/repository/" + r.fullName(), "last_modified": c.s.lastModified(r), "stars": 0, "popularity": r.Popularity,
		})
	}
	return rows
}
