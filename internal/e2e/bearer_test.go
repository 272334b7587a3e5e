package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A bearer stands in front of a registry, asks for a bearer token for each
// repository, as the large public ones do, and counts what it is asked.
type bearer struct {
	// most is how many repositories a token allows to be read, or to be written; 0 is
	// any. A token to write allows to read one more, from which to mount.
	most int
	// mountless: uploads begin where mounts are asked for.
	mountless bool

	inner   *httptest.Server // without tokens and counts
	mu      sync.Mutex
	counts  map[string]int // by method and kind
	conns   int
	address string
}

var repositoryPath = regexp.MustCompile(`^/v2/(.+?)/(manifests|blobs|tags)/`)

// startBearer starts an empty registry behind b and gives its host:port.
func startBearer(t *testing.T, b *bearer) (host string) {
	t.Helper()
	b.counts = map[string]int{}
	next := distribution(t.Context(), t.TempDir(), "")
	b.inner = httptest.NewServer(next)
	t.Cleanup(b.inner.Close)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, next) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns++
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	b.address = s.URL
	return strings.TrimPrefix(s.URL, "http://")
}

func (b *bearer) count(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[kind]++
}

// take gives the counts since the last take, and their sum; connections that are
// open count no more.
func (b *bearer) take() (counts map[string]int, sum, conns int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts, conns = b.counts, b.conns
	b.counts, b.conns = map[string]int{}, 0
	for _, n := range counts {
		sum += n
	}
	return counts, sum, conns
}

func (b *bearer) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if r.URL.Path == "/token" {
		b.count("token")
		b.grant(w, r.URL.Query()["scope"])
		return
	}
	kind, repo := "ping", ""
	if m := repositoryPath.FindStringSubmatch(r.URL.Path); m != nil {
		repo, kind = m[1], m[2]
		if strings.Contains(r.URL.Path, "/blobs/uploads/") {
			kind = "uploads"
		}
	}
	q := r.URL.Query()
	from := q.Get("from")
	need := []string{repo + ":pull"}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		need = []string{repo + ":push"}
	}
	if from != "" {
		kind = "mount"
		need = append(need, from+":pull")
	}
	have := granted(r.Header.Get("Authorization"))
	missing := func(n string) bool { return !slices.Contains(have, n) }
	if repo != "" && slices.ContainsFunc(need, missing) || repo == "" && r.Header.Get("Authorization") == "" {
		b.count("401")
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="e2e"`, b.address))
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	b.count(r.Method + " " + kind)
	r.Header.Del("Authorization")
	if b.mountless && from != "" {
		r.URL.RawQuery = ""
	}
	next.ServeHTTP(w, r)
}

// granted gives what a token allows: "repository:action".
func granted(authorization string) []string {
	raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(authorization, "Bearer ")) // no token allows nothing
	return strings.Fields(string(raw))
}

// grant answers with a token for as many of scopes as one may hold.
func (b *bearer) grant(w http.ResponseWriter, scopes []string) {
	var allowed []string
	writes := slices.ContainsFunc(scopes, func(s string) bool { return strings.Contains(s, "push") })
	written, read := 0, 0
	for _, s := range scopes {
		parts := strings.Split(s, ":")
		if len(parts) != 3 {
			continue
		}
		n, most := &read, b.most
		switch {
		case strings.Contains(parts[2], "push"):
			n = &written
		case writes:
			most = min(b.most, 1) // to mount from
		}
		if *n++; b.most > 0 && *n > most {
			continue
		}
		for action := range strings.SplitSeq(parts[2], ",") {
			allowed = append(allowed, parts[1]+":"+action)
		}
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(strings.Join(allowed, " ")))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300}) // a client that is gone
}
