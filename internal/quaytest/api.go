package quaytest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// An apiCall is one request to /api/v1.
type apiCall struct {
	s    *Server
	r    *http.Request
	q    url.Values
	who  caller
	repo string   // "ns/repo" of the URL
	args []string // what else the URL names
}

// An apiRoute is one rule for URLs; its handlers are by method, GET's serves
// HEAD too.
type apiRoute struct {
	kind     string // for [Kind]
	re       *regexp.Regexp
	repo     bool               // the first group is a repository
	on       func(Options) bool // nil: always
	handlers map[string]func(*apiCall) answer
}

const (
	repoPart   = `repository/([^/]+(?:/[^/]+)+)`
	digestPart = `([A-Za-z0-9_+.-]+:[A-Fa-f0-9]+)`
)

type handlers = map[string]func(*apiCall) answer

// apiRoutes are tried in this order. A repository's name may be nested, so what
// no earlier rule takes is a repository called "repo/tag/latest".
var apiRoutes = []apiRoute{
	{kind: "repositories", re: rule(`repository`), handlers: handlers{"GET": (*apiCall).listRepositories, "POST": (*apiCall).createRepository}},
	{kind: "tags", re: rule(repoPart + `/tag/`), repo: true, handlers: handlers{"GET": (*apiCall).listTags}},
	{kind: "other", re: rule(repoPart + `/tag`), repo: true, handlers: handlers{"GET": (*apiCall).addSlash}},
	{kind: "tag", re: rule(repoPart + `/tag/([^/]+)`), repo: true, handlers: handlers{"PUT": (*apiCall).changeTag, "DELETE": (*apiCall).deleteTag}},
	{kind: "tag.restore", re: rule(repoPart + `/tag/([^/]+)/restore`), repo: true, handlers: handlers{"POST": (*apiCall).restoreTag}},
	{kind: "other", re: rule(repoPart + `/tag/([^/]+)/expire`), repo: true, handlers: handlers{"POST": (*apiCall).expireTag},
		on: func(o Options) bool { return o.PermanentlyDeleteTags }},
	{kind: "labels", re: rule(repoPart + `/manifest/` + digestPart + `/labels`), repo: true, handlers: handlers{"GET": (*apiCall).listLabels, "POST": (*apiCall).addLabel}},
	{kind: "labels", re: rule(repoPart + `/manifest/` + digestPart + `/labels/([^/]+)`), repo: true, handlers: handlers{"GET": (*apiCall).getLabel, "DELETE": (*apiCall).deleteLabel}},
	{kind: "manifest", re: rule(repoPart + `/manifest/` + digestPart), repo: true, handlers: handlers{"GET": (*apiCall).getManifest}},
	{kind: "visibility", re: rule(repoPart + `/changevisibility`), repo: true, handlers: handlers{"POST": (*apiCall).changeVisibility}},
	{kind: "other", re: rule(repoPart + `/changestate`), repo: true, handlers: handlers{"PUT": (*apiCall).changeState}, on: mirroring},
	{kind: "other", re: rule(repoPart + `/mirror`), repo: true, handlers: handlers{"GET": (*apiCall).getMirror, "POST": (*apiCall).createMirror, "PUT": (*apiCall).changeMirror}, on: mirroring},
	{kind: "other", re: rule(repoPart + `/mirror/sync-(?:now|cancel)`), repo: true, handlers: handlers{"POST": (*apiCall).syncMirror}, on: mirroring},
	{kind: "repository", re: rule(repoPart), repo: true, handlers: handlers{"GET": (*apiCall).getRepository, "PUT": (*apiCall).changeRepository, "DELETE": (*apiCall).deleteRepository}},
	{kind: "other", re: rule(`find/repositories`), handlers: handlers{"GET": (*apiCall).findRepositories}},
	{kind: "other", re: rule(`find/all`), handlers: handlers{"GET": (*apiCall).findAll}},
	{kind: "other", re: rule(`organization/([^/]+)/robots`), handlers: handlers{"GET": (*apiCall).orgRobots}},
	{kind: "other", re: rule(`user/robots`), handlers: handlers{"GET": (*apiCall).userRobots}},
	{kind: "other", re: rule(`user/`), handlers: handlers{"GET": (*apiCall).getUser}},
	{kind: "other", re: rule(`error/([^/]+)`), handlers: handlers{"GET": (*apiCall).describeError}},
}

func rule(s string) *regexp.Regexp { return regexp.MustCompile(`^` + s + `$`) }

func mirroring(o Options) bool { return o.RepoMirror }

// findAPIRoute finds the rule for path, whatever is switched on. Where only
// the method is wrong the methods that there are come back.
func findAPIRoute(path, method string) (*apiRoute, []string) {
	return findRoute(path, method, nil)
}

func findRoute(path, method string, opt *Options) (*apiRoute, []string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for i := range apiRoutes {
		route := &apiRoutes[i]
		if opt != nil && route.on != nil && !route.on(*opt) || !route.re.MatchString(path) {
			continue
		}
		if route.handlers[method] != nil || method == http.MethodOptions {
			return route, nil
		}
		for m := range route.handlers {
			allowed = append(allowed, m)
			if m == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	if allowed != nil {
		allowed = append(allowed, http.MethodOptions)
		slices.Sort(allowed)
		allowed = slices.Compact(allowed)
	}
	return nil, allowed
}

// serveAPI goes through Quay's checks in Quay's order.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	route, allowed := findRoute(path, r.Method, &s.opt)
	switch {
	case route == nil && allowed == nil:
		writeHTML(w, http.StatusNotFound)
		return
	case route == nil:
		a := message(http.StatusMethodNotAllowed, "The method is not allowed for the requested URL.")
		a.header = map[string]string{"Allow": strings.Join(allowed, ", ")}
		a.write(w, r)
		return
	case r.Method == http.MethodOptions:
		ok(nil).write(w, r)
		return
	}
	s.callAPI(route, r, path).write(w, r)
}

func (s *Server) callAPI(route *apiRoute, r *http.Request, path string) answer {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if r.Method == http.MethodGet && strings.HasPrefix(r.UserAgent(), "Mozilla/") && r.Header.Get("X-Requested-With") != "XMLHttpRequest" {
		return abort(http.StatusBadRequest, "API calls must be invoked with an X-Requested-With header if called from a browser")
	}
	c := &apiCall{s: s, r: r, q: r.URL.Query()}
	s.mu.Lock()
	defer s.mu.Unlock()
	who, valid, refused := s.apiCaller(r)
	if refused != "" {
		return abort(http.StatusUnauthorized, refused)
	}
	c.who = who
	switch {
	case !safe && !valid:
		return abort(http.StatusForbidden, "CSRF token was invalid or missing.")
	case s.opt.NoAnonymousAccess && who.user == "":
		return abort(http.StatusUnauthorized, "Anonymous access is not allowed")
	case s.opt.ReadOnly && !safe:
		a := message(http.StatusServiceUnavailable, "System is currently read-only. Pulls will succeed but all write operations are currently suspended.")
		a.body.(map[string]any)["is_readonly"] = true
		return a
	}
	groups := route.re.FindStringSubmatch(path)[1:]
	if route.repo {
		c.repo, groups = groups[0], groups[1:]
	}
	c.args = groups
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return route.handlers[method](c)
}

// apiCaller reads the Authorization header. Whatever isn't a good OAuth token
// is anonymous; only a JWT is refused.
func (s *Server) apiCaller(r *http.Request) (who caller, valid bool, refused string) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || strings.Contains(token, " ") {
		return caller{}, false, ""
	}
	if looksLikeJWT(token) {
		return caller{}, false, "Invalid bearer token: the issuer is unknown"
	}
	t := s.oauth(token)
	if t == nil || t.App {
		return caller{}, false, ""
	}
	return caller{user: t.User, oauth: true, scopes: t.Scopes}, true, ""
}

// oauth gives a token that is good: known, not expired, its user enabled.
func (s *Server) oauth(token string) *oauthToken {
	t := s.state.Tokens[token]
	if t == nil || !t.Expires.After(s.now()) {
		return nil
	}
	if u := s.state.Namespaces[t.User]; u == nil || u.Disabled {
		return nil
	}
	if !slices.Equal(t.Scopes, knownScopes(t.Scopes)) {
		return &oauthToken{User: t.User, App: t.App, Expires: t.Expires} // one unknown scope voids all
	}
	return t
}

var allScopes = []string{"repo:read", "repo:write", "repo:admin", "repo:create", "org:admin", "user:read", "user:admin", "super:user"}

func knownScopes(scopes []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return !slices.Contains(allScopes, s) })
}

// require checks that the caller has at least need on the repository of the
// URL, before it is known whether there is one. For read, public is enough.
func (c *apiCall) require(need role) (answer, bool) {
	repo := c.s.state.Repositories[c.repo]
	if need == read && repo != nil && repo.Public {
		return answer{}, true
	}
	if c.who.cap(c.s.rights(c.who.user, c.repo)) >= need {
		return answer{}, true
	}
	return c.unauthorized(), false
}

func (c *apiCall) unauthorized() answer {
	if c.who.user == "" {
		return c.apiError(http.StatusUnauthorized, "invalid_token", "Requires authentication")
	}
	return c.apiError(http.StatusForbidden, "insufficient_scope", "Unauthorized")
}

func (c *apiCall) notFound() answer {
	return c.apiError(http.StatusNotFound, "not_found", "Not Found")
}

// readable gives the repository of the URL if the caller may read it.
func (c *apiCall) readable() (*repository, answer, bool) { return c.allowed(read) }

func (c *apiCall) allowed(need role) (*repository, answer, bool) {
	if a, ok := c.require(need); !ok {
		return nil, a, false
	}
	repo := c.s.state.Repositories[c.repo]
	if repo == nil {
		return nil, c.notFound(), false
	}
	return repo, answer{}, true
}

// writable is readable for changes of tags and labels, which only a repository
// in state NORMAL takes.
func (c *apiCall) writable() (*repository, answer, bool) {
	repo, a, ok := c.allowed(write)
	if ok && repo.State != "NORMAL" {
		return nil, message(http.StatusServiceUnavailable, "Repository is in read only or mirror mode: "+itoa(repo.stateNumber())), false
	}
	return repo, a, ok
}

// addSlash is Werkzeug's redirect.
func (c *apiCall) addSlash() answer {
	u := *c.r.URL
	u.Path += "/"
	u.RawPath = ""
	return answer{
		status: http.StatusPermanentRedirect,
		header: map[string]string{"Location": baseURL(c.r) + u.RequestURI()},
		html:   true,
	}
}
