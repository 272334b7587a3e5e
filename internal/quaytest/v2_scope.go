package quaytest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A scope is one `scope=` parameter.
type scope struct {
	asked   string // the name as it was asked for, without the host
	repo    string // "ns/repo"
	actions []string
}

var (
	scopeRE      = regexp.MustCompile(`^repository:([.a-zA-Z0-9_\-/:]+):((?:push|pull|\*)(?:,(?:push|pull|\*))*)$`)
	scopeNameRE  = regexp.MustCompile(`^[.a-zA-Z0-9_-]+(/[.a-zA-Z0-9_-]+)*$`)
	namespaceRE  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,254}$`)
	libraryOwner = "library"
)

// parseScope reads `repository:[HOST/]name:actions`.
func (s *Server) parseScope(text, host string) (scope, *v2Error) {
	m := scopeRE.FindStringSubmatch(text)
	bad := &v2Error{status: http.StatusBadRequest, code: "INVALID_REQUEST", message: "Unable to decode repository and actions: " + text}
	if m == nil {
		return scope{}, bad
	}
	sc := scope{asked: strings.TrimPrefix(m[1], host+"/"), actions: strings.Split(m[2], ",")}
	if !scopeNameRE.MatchString(sc.asked) {
		return scope{}, bad
	}
	repo, ok := s.repoName(sc.asked)
	ns, name := splitName(repo)
	if !ok || !namespaceRE.MatchString(ns) || !s.validRepoName(name) {
		return scope{}, &v2Error{status: http.StatusBadRequest, code: "NAME_INVALID", message: fmt.Sprintf("Invalid repository name: %s", sc.asked)}
	}
	sc.repo = repo
	return sc, nil
}

// repoName gives "ns/repo" for a V2 name: one segment is the library's.
func (s *Server) repoName(name string) (string, bool) {
	if strings.Contains(name, "/") {
		return name, true
	}
	return libraryOwner + "/" + name, !s.opt.NoLibrary
}

// granted gives what of sc.actions who gets: fewer, or none, but no refusal.
// Asking for push makes the repository, private, where who may.
func (s *Server) granted(who caller, sc scope) ([]string, *v2Error) {
	ns, name := splitName(sc.repo)
	if n := s.state.Namespaces[ns]; n != nil && n.Disabled {
		return nil, &v2Error{status: http.StatusMethodNotAllowed, code: "DENIED", message: "Namespace " + ns + " has been disabled. Please contact a system administrator."}
	}
	wants := func(a string) bool { return slices.Contains(sc.actions, a) }
	actions := []string{}
	r := s.state.Repositories[sc.repo]
	if r == nil {
		if n := s.state.Namespaces[ns]; wants("push") && s.mayCreate(who, ns) && !s.opt.ReadOnly && !(s.opt.OrgMirror && n.Mirrored) {
			s.addRepository(ns, name, false, who.user)
			actions = append(actions, "push", "pull")
			if wants("*") {
				actions = append(actions, "*")
			}
		} else if wants("*") && s.administers(who.user, ns) {
			return nil, &v2Error{status: http.StatusInternalServerError, code: "UNKNOWN", message: "an assertion failed"}
		} else if wants("pull") && who.cap(s.rights(who.user, sc.repo)) >= read {
			actions = append(actions, "pull") // by the role in the namespace; using it is 404
		}
		return actions, nil
	}
	has := who.cap(s.rights(who.user, sc.repo))
	open := r.State == "NORMAL" || r.State == "MIRROR" && r.Mirror["robot_username"] == who.user
	if wants("push") && has >= write && open && !s.opt.ReadOnly {
		actions = append(actions, "push")
	}
	if wants("pull") && (has >= read || r.Public) {
		actions = append(actions, "pull")
	}
	if wants("*") && has >= admin && open {
		actions = append(actions, "*")
	}
	return actions, nil
}
