package quaytest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A catalog is a cached list of repositories, by ID.
type catalog struct {
	rows []catalogRow
	at   time.Time
}

type catalogRow struct {
	id   int64
	name string
}

// serveCatalog is GET /v2/_catalog: section 6.2 of the contract.
func (s *Server) serveCatalog(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		unsupported().write(w)
		return
	}
	token, fail := s.bearer(r)
	if fail != nil {
		setChallenge(w, r, "")
		fail.write(w)
		return
	}
	user := token.Subject
	if user == anonymousSubject || len(token.Access) > 0 { // it must come from a call without scopes
		user = ""
	}
	q := r.URL.Query()
	n := v2PageSize
	if q.Has("n") {
		asked, err := strconv.Atoi(q.Get("n"))
		if err != nil {
			asked = 1
		}
		n = min(max(asked, 1), v2PageSize)
	}
	from := q.Get("next_page")
	if from == "" {
		from = q.Get("last")
	}
	s.mu.Lock()
	start := s.openPageToken(from)
	rows := s.catalog(user)
	s.mu.Unlock()
	names := []string{}
	for _, row := range rows {
		if row.id < start {
			continue
		}
		if len(names) == n {
			next := url.QueryEscape(s.sealPageToken(row.id))
			w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?n=%d&next_page=%s>; rel="next"`, n, next))
			break
		}
		names = append(names, row.name)
	}
	writeJSON(w, http.StatusOK, map[string]any{"repositories": names})
}

// catalog gives what user sees, perhaps as it was a minute ago.
func (s *Server) catalog(user string) []catalogRow {
	now := s.now()
	if c, ok := s.catalogs[user]; ok && now.Sub(c.at) < s.opt.CatalogCache {
		return c.rows
	}
	var rows []catalogRow
	for _, r := range s.byID {
		if s.rights(user, r.fullName()) >= read || s.opt.PublicCatalog && r.Public {
			rows = append(rows, catalogRow{r.ID, r.fullName()})
		}
	}
	s.catalogs[user] = catalog{rows, now}
	return rows
}
