package transport

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxScopes is how many scopes one token request asks for at most: a URL has
// to fit into what servers take, about 8 KiB.
const maxScopes = 20

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

// list gives one string a scope, sorted, as a token service takes them.
func (s scopes) list() []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if actions := s[key]; len(actions) > 0 {
			out = append(out, key+":"+strings.Join(actions, ","))
		} else if !strings.Contains(key, ":") {
			out = append(out, key)
		}
	}
	return out
}

// neededScopes says what a request to repo needs and what is worth asking for
// in the same breath: all that its context names, at most [maxScopes].
//
// The context rules what is needed in repo. If it is silent about it, method
// and path do. A mount needs to pull from its origin, in the same token.
func neededScopes(req *http.Request, kind Kind, repo string) (need, ask scopes) {
	hints := parseScopes(auth.GetAllScopesForHost(req.Context(), req.URL.Host))
	need = scopes{}
	if repo == "" { // /v2/ and the catalog belong to no repository
		for k, actions := range hints {
			if !strings.HasPrefix(k, "repository:") {
				need.add(k, actions...)
			}
		}
	} else {
		key := "repository:" + repo
		if actions, ok := hints[key]; ok {
			need.add(key, actions...)
		} else {
			need.add(key, derivedActions(kind, req.Method)...)
		}
		if from := mountOrigin(req.URL); from != "" && from != repo {
			need.add("repository:"+from, "pull")
			need.add("repository:"+from, hints["repository:"+from]...)
		}
	}
	ask = scopes{}.with(need)
	for _, key := range slices.Sorted(maps.Keys(hints)) {
		if len(ask) >= maxScopes {
			break
		}
		ask.add(key, hints[key]...)
	}
	return need, ask
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
