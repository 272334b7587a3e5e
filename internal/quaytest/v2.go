package quaytest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A v2Path is what a URL below /v2/ names.
type v2Path struct {
	what string // manifest, blob, uploads, upload, tags, referrers; "" for none
	name string // as in the URL
	ref  string // tag, digest or upload
	last string // the path below the name, for the store
}

// parseV2 splits a URL. Names may hold every word that follows them, so the
// last one counts.
func parseV2(path string) v2Path {
	rest := strings.TrimPrefix(path, "/v2/")
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok && name != "" {
		return v2Path{"tags", name, "", "/tags/list"}
	}
	if name, ok := strings.CutSuffix(rest, "/blobs/uploads/"); ok && name != "" {
		return v2Path{"uploads", name, "", "/blobs/uploads/"}
	}
	i := strings.LastIndexByte(rest, '/')
	if i <= 0 || i == len(rest)-1 {
		return v2Path{}
	}
	dir, ref := rest[:i], rest[i+1:]
	for _, p := range []struct{ what, dir string }{
		{"upload", "/blobs/uploads"}, {"blob", "/blobs"}, {"manifest", "/manifests"}, {"referrers", "/referrers"},
	} {
		if name, ok := strings.CutSuffix(dir, p.dir); ok && name != "" {
			return v2Path{p.what, name, ref, p.dir + "/" + ref}
		}
	}
	return v2Path{}
}

// A v2Call is one request about a repository's content.
type v2Call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	path  v2Path
	token claims
	full  string      // "ns/repo"
	repo  *repository // nil: there is none
}

var (
	oldDockerRE = regexp.MustCompile(`docker/(0|1\.[0-5])\.`)
	digestRE    = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
	digestLike  = regexp.MustCompile(`^[A-Za-z0-9_+.-]+:[A-Fa-f0-9]+$`)
)

func (s *Server) serveV2(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v2":
		http.Redirect(w, r, baseURL(r)+"/v2/", http.StatusPermanentRedirect)
		return
	case "/v2/auth":
		s.serveAuth(w, r)
		return
	case "/v2/":
		s.servePing(w, r)
		return
	case "/v2/_catalog":
		s.serveCatalog(w, r)
		return
	}
	c := &v2Call{s: s, w: w, r: r, path: parseV2(r.URL.Path)}
	var known bool
	c.full, known = s.repoName(c.path.name)
	switch {
	case c.path.what == "" && strings.HasSuffix(r.URL.Path, "/blobs/uploads"):
		http.Redirect(w, r, baseURL(r)+r.URL.Path+"/", http.StatusPermanentRedirect)
		return
	case c.path.what == "", !known:
		writeHTML(w, http.StatusNotFound)
		return
	}
	handle, exists := v2Routes[c.path.what][r.Method]
	if !exists {
		unsupported().write(w)
		return
	}
	token, fail := s.bearer(r)
	if fail != nil {
		c.challenge(handle.action)
		fail.write(w)
		return
	}
	c.token = token
	if !c.may(handle.action) {
		c.challenge(handle.action)
		unauthorizedError("access to the requested resource is not authorized").write(w)
		return
	}
	s.mu.Lock()
	c.repo = s.state.Repositories[c.full]
	s.mu.Unlock()
	switch {
	case c.repo == nil:
		nameUnknown().write(w)
	case s.opt.ReadOnly && handle.action != "pull":
		(&v2Error{
			status: http.StatusMethodNotAllowed, code: "DENIED", detail: map[string]any{"is_readonly": true},
			message: "System is currently read-only. Pulls will succeed but all write operations are currently suspended.",
		}).write(w)
	default:
		handle.do(c)
	}
}

// A v2Handler does one thing for callers who may do action.
type v2Handler struct {
	action string
	do     func(*v2Call)
}

// v2Routes is by what and method.
var v2Routes = map[string]map[string]v2Handler{
	"tags":      {"GET": {"pull", (*v2Call).listTags}},
	"referrers": {"GET": {"pull", (*v2Call).listReferrers}},
	"manifest": {
		"GET": {"pull", (*v2Call).getManifest}, "HEAD": {"pull", (*v2Call).getManifest},
		"PUT": {"push", (*v2Call).putManifest}, "DELETE": {"push", (*v2Call).deleteManifest},
	},
	"blob":    {"GET": {"pull", (*v2Call).getBlob}, "HEAD": {"pull", (*v2Call).headBlob}},
	"uploads": {"POST": {"push", (*v2Call).startUpload}},
	"upload": {
		"GET": {"push", (*v2Call).uploadStatus}, "PATCH": {"push", (*v2Call).patchUpload},
		"PUT": {"push", (*v2Call).putUpload}, "DELETE": {"push", (*v2Call).cancelUpload},
	},
}

// may reports whether the token, or that the repository is public, allows
// action. "*" is every action.
func (c *v2Call) may(action string) bool {
	for _, g := range c.token.Access {
		if g.Type == "repository" && (g.Name == c.path.name || g.Name == c.full) &&
			(slices.Contains(g.Actions, action) || slices.Contains(g.Actions, "*")) {
			return true
		}
	}
	if c.token.Subject == anonymousSubject && c.s.opt.NoAnonymousAccess {
		return false
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	r := c.s.state.Repositories[c.full]
	return action == "pull" && r != nil && r.Public
}

// challenge sets the headers of a 401 for a repository.
func (c *v2Call) challenge(action string) {
	if action == "push" {
		action = "pull,push"
	}
	setChallenge(c.w, c.r, fmt.Sprintf("repository:%s:%s", c.path.name, action))
}

func setChallenge(w http.ResponseWriter, r *http.Request, scope string) {
	v := fmt.Sprintf(`Bearer realm="%s/v2/auth",service="%s"`, baseURL(r), r.Host)
	if scope != "" {
		v += fmt.Sprintf(`,scope="%s"`, scope)
	}
	w.Header().Set("WWW-Authenticate", v)
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
}

// servePing is GET /v2/.
func (s *Server) servePing(w http.ResponseWriter, r *http.Request) {
	if oldDockerRE.MatchString(r.UserAgent()) {
		writeHTML(w, http.StatusNotFound)
		return
	}
	setChallenge(w, r, "")
	w.Header().Set("X-Sparse-Manifest-Support", strconv.FormatBool(s.opt.SparseIndex))
	if _, fail := s.bearer(r); fail != nil {
		fail.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.Header.Get("Authorization") == "" {
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = w.Write([]byte("true"))
}

// storeURL is where ociserver finds last ("/blobs/…") of r.
func storeURL(r *repository, last string) string { return "/v2/" + r.storeName() + last }

// forward lets ociserver answer for path of the store. onHeader may change
// status-dependent headers before they are sent.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, path string, query url.Values, onHeader func(status int, h http.Header)) {
	r2 := r.Clone(r.Context())
	r2.URL = &url.URL{Path: path, RawQuery: query.Encode()}
	s.registry.ServeHTTP(&rewriter{ResponseWriter: w, onHeader: onHeader}, r2)
}

// A rewriter changes the headers of an answer before they are sent.
type rewriter struct {
	http.ResponseWriter
	onHeader func(status int, h http.Header)
	sent     bool
}

func (w *rewriter) WriteHeader(status int) {
	if !w.sent && w.onHeader != nil {
		w.onHeader(status, w.Header())
	}
	w.sent = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *rewriter) Write(p []byte) (int, error) {
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// hasBlob reports whether the repository holds d.
func (s *Server) hasBlob(ctx context.Context, r *repository, d oci.Digest) bool {
	_, err := s.store.ResolveBlob(ctx, r.storeName(), d)
	return err == nil
}
