package transport

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// repositoryScope is what keys of repositories begin with.
const repositoryScope = "repository:"

// scopes are what a token allows or a request needs: actions by "type:name",
// e.g. "repository:kolla/nova-api" to {"pull"}. A scope of another form is a
// key without actions.
type scopes map[string][]string

func parseScopes(list []string) scopes {
	s := scopes{}
	for _, scope := range list {
		kind, rest, ok := strings.Cut(scope, ":")
		i := strings.LastIndexByte(rest, ':')
		if !ok || i < 0 {
			if scope != "" {
				s.add(scope)
			}
			continue
		}
		s.add(kind+":"+rest[:i], strings.Split(rest[i+1:], ",")...)
	}
	return s
}

func (s scopes) add(key string, actions ...string) {
	have := s[key]
	for _, a := range actions {
		if a != "" && !slices.Contains(have, a) {
			have = append(have, a)
		}
	}
	slices.Sort(have)
	s[key] = have
}

// with gives the union of s and more.
func (s scopes) with(more scopes) scopes {
	sum := scopes{}
	for _, from := range []scopes{s, more} {
		for key, actions := range from {
			sum.add(key, actions...)
		}
	}
	return sum
}

// cover reports whether a token with s serves a request that needs need.
func (s scopes) cover(need scopes) bool {
	for key, actions := range need {
		have, ok := s[key]
		if !ok {
			return false
		}
		if slices.Contains(have, "*") {
			continue
		}
		for _, a := range actions {
			if !slices.Contains(have, a) {
				return false
			}
		}
	}
	return true
}

// writes reports whether actions go beyond reading.
func writes(actions []string) bool {
	return slices.ContainsFunc(actions, func(a string) bool { return a != "pull" })
}

// write reports whether some of s is to be written.
func (s scopes) write() bool {
	for _, actions := range s {
		if writes(actions) {
			return true
		}
	}
	return false
}

// size is how long s is in a request, about, in bytes.
func (s scopes) size() int {
	n := 0
	for key, actions := range s {
		n += len(key)
		for _, a := range actions {
			n += len(a) + 1
		}
	}
	return n
}

// list gives one string a scope, as a token service takes them: those of first
// first, since some services grant no more than one; of these what is to be
// written; else sorted.
func (s scopes) list(first scopes) []string {
	keys := slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		return cmp.Or(-compareBool(first[a] != nil, first[b] != nil),
			-compareBool(first[a] != nil && writes(s[a]), first[b] != nil && writes(s[b])), strings.Compare(a, b))
	})
	var out []string
	for _, key := range keys {
		if actions := s[key]; len(actions) > 0 {
			out = append(out, key+":"+strings.Join(actions, ","))
		} else if !strings.Contains(key, ":") {
			out = append(out, key)
		}
	}
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// neededScopes says what a request to repo needs, and what its context names
// besides.
//
// The context rules what is needed in repo. If it is silent about it, method
// and path do. A mount needs to pull from its origin, in the same token.
func neededScopes(req *http.Request, kind Kind, repo string) (need, also scopes, origin string) {
	hints := parseScopes(auth.GetAllScopesForHost(req.Context(), req.URL.Host))
	need = scopes{}
	if repo == "" { // /v2/ and the catalog belong to no repository
		for k, actions := range hints {
			if !strings.HasPrefix(k, repositoryScope) {
				need.add(k, actions...)
			}
		}
	} else {
		key := repositoryScope + repo
		if actions, ok := hints[key]; ok {
			need.add(key, actions...)
		} else {
			need.add(key, derivedActions(kind, req.Method)...)
		}
		if from := mountOrigin(req.URL); from != "" && from != repo {
			origin = from
			need.add(repositoryScope+from, "pull")
			need.add(repositoryScope+from, hints[repositoryScope+from]...)
		}
	}
	for key := range need {
		delete(hints, key)
	}
	return need, hints, origin
}

// derivedActions are what the distribution specification asks for, except that
// a delete asks for push: Quay knows no delete action and refuses the request.
// A registry that has one says so in its challenge.
func derivedActions(kind Kind, method string) []string {
	if kind != Upload && (method == http.MethodGet || method == http.MethodHead) {
		return []string{"pull"}
	}
	return []string{"pull", "push"}
}

func mountOrigin(u *url.URL) string {
	if !strings.Contains(u.RawQuery, "mount=") {
		return ""
	}
	return u.Query().Get("from")
}
