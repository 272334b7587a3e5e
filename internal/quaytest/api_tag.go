package quaytest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// listTags is GET /repository/R/tag/: section 4.1 of the contract.
func (c *apiCall) listTags() answer {
	r, a, allowed := c.readable()
	if !allowed {
		return a
	}
	limit, err := c.integer("limit", 50)
	if err != nil {
		return message(http.StatusBadRequest, map[string]any{"limit": "Limit to the number of results to return per page. Max 100."})
	}
	page, err := c.integer("page", 1)
	if err != nil {
		return message(http.StatusBadRequest, map[string]any{"page": "Page index for the results. Default 1."})
	}
	limit, page = min(max(limit, 1), 100), max(page, 1)
	want, valid := tagFilter(c.q.Get("filter_tag_name"), c.q.Get("specificTag"))
	if !valid {
		return message(http.StatusBadRequest, "Unsupported syntax for filter_tag_name. Expected <operation>:<tag_name> where <operation>can be 'like' or 'eq'.")
	}
	rows, more, skip := []map[string]any{}, false, (page-1)*limit
	for _, t := range c.s.visibleTags(r, truthy(c.q, "onlyActiveTags", false)) {
		if !want(t.Name) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(rows) == limit {
			more = true
			break
		}
		rows = append(rows, c.s.tagRow(r, t))
	}
	return ok(map[string]any{"tags": rows, "page": page, "has_additional": more})
}

func (c *apiCall) integer(name string, absent int) (int, error) {
	if !c.q.Has(name) {
		return absent, nil
	}
	n, err := strconv.Atoi(c.q.Get(name))
	return min(n, 1<<20), err
}

// tagFilter gives which names are wanted; false if the filter has no colon. An
// unknown operation filters nothing.
func tagFilter(filter, specific string) (func(string) bool, bool) {
	op, text, colon := strings.Cut(filter, ":")
	if filter != "" && !colon {
		return nil, false
	}
	return func(name string) bool {
		switch {
		case specific != "" && name != specific,
			op == "eq" && name != text,
			op == "like" && !strings.Contains(strings.ToLower(name), strings.ToLower(text)):
			return false
		}
		return true
	}, true
}

// rfc2822 writes times as Python's email.utils does, zone "-0000".
func rfc2822(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0000") }

// tagRow is one tag of the list.
func (s *Server) tagRow(r *repository, t *tag) map[string]any {
	row := map[string]any{"name": t.Name, "reversion": t.Reversion, "manifest_digest": t.Digest, "is_manifest_list": false, "size": nil}
	if t.Start.Unix() > 0 {
		row["start_ts"] = t.Start.Unix()
		row["last_modified"] = rfc2822(t.Start)
	}
	if !t.End.IsZero() {
		row["end_ts"] = t.End.Unix()
		row["expiration"] = rfc2822(t.End)
	}
	if s.opt.ImmutableTags {
		row["immutable"] = t.Immutable
	}
	m := s.manifest(r, t.Digest)
	if m == nil {
		return row
	}
	row["size"] = m.size()
	if m.IsList {
		present := map[string]bool{}
		n := 0
		for _, c := range m.Children {
			there := s.manifest(r, c.Digest) != nil
			present[string(c.Digest)] = there
			if there {
				n++
			}
		}
		row["is_manifest_list"] = true
		row["is_sparse"] = n < len(m.Children)
		row["child_manifest_count"] = len(m.Children)
		row["present_child_count"] = n
		row["child_manifests_presence"] = present
	}
	return row
}

// size is the "size" of a tag: nil for lists.
func (m *manifest) size() any {
	if m.IsList {
		return nil
	}
	return m.layersSize()
}
