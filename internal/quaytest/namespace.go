package quaytest

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"
)

// A namespace is a user or an organisation.
type namespace struct {
	Name     string
	Org      bool
	Password string // of a user; "" can't log in
	Disabled bool
	Mirrored bool  // an organisation that mirrors another registry
	Quota    int64 // bytes; 0: none
	Teams    map[string]*team
	Stars    map[string]bool // "ns/repo"
	Defaults map[string]role // what users and robots get on new repositories

	wrong int // wrong passwords in a row
}

// A team gives its members a role in their organisation.
type team struct {
	Role    string // "member", "creator" or "admin"
	Members []string
}

// An oauthToken acts as the user who granted it, within its scopes.
type oauthToken struct {
	User    string
	Scopes  []string
	Expires time.Time
	App     bool // an application password (`$app`): V2 only, no scopes
}

type robot struct {
	Name    string // "ns+bot"
	Token   string
	Created time.Time
}

// A role is what someone may do with a repository.
type role int

const (
	none role = iota
	read
	write
	admin
)

var roles = map[string]role{"read": read, "write": write, "admin": admin}

// A caller is who a request acts for.
type caller struct {
	user   string   // user or "ns+bot"; "" is anonymous
	oauth  bool     // by an OAuth token, which caps what user may do
	scopes []string // of the token
}

// cap gives what the caller's scopes leave of r.
func (c caller) cap(r role) role {
	if !c.oauth {
		return r
	}
	most := none
	for _, s := range c.scopes {
		switch s {
		case "repo:read":
			most = max(most, read)
		case "repo:write":
			most = max(most, write)
		case "repo:admin":
			most = max(most, admin)
		}
	}
	return min(r, most)
}

func (c caller) hasScope(scopes ...string) bool {
	return !c.oauth || slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(c.scopes, s) })
}

// administers reports whether user owns ns or is in a team of its admins.
func (s *Server) administers(user, ns string) bool {
	return user != "" && (user == ns || s.inTeam(user, ns, "admin"))
}

func (s *Server) inTeam(user, ns string, roles ...string) bool {
	n := s.state.Namespaces[ns]
	if n == nil {
		return false
	}
	for _, t := range n.Teams {
		if slices.Contains(roles, t.Role) && slices.Contains(t.Members, user) {
			return true
		}
	}
	return false
}

// rights gives what user may do with the repository named "ns/repo", which
// need not exist: the role in its namespace counts then. Public is not counted.
func (s *Server) rights(user, name string) role {
	if user == "" {
		return none
	}
	ns, _, _ := strings.Cut(name, "/")
	if s.administers(user, ns) {
		return admin
	}
	if r := s.state.Repositories[name]; r != nil {
		return r.Grants[user]
	}
	return none
}

// mayCreate reports whether c may make repositories in ns.
func (s *Server) mayCreate(c caller, ns string) bool {
	if s.state.Namespaces[ns] == nil || !c.hasScope("repo:create", "org:admin") {
		return false
	}
	return s.administers(c.user, ns) || c.user != "" && s.inTeam(c.user, ns, "creator")
}

// secret makes a token of 40 letters and digits or more.
func secret() string { return rand.Text() + rand.Text() }
