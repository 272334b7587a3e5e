package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// A recorder is a server that keeps what it was asked.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct {
	method, path, query, auth, cookie string
	at                                time.Time
}

func (r *recorder) keep(req *http.Request) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen{req.Method, req.URL.Path, req.URL.RawQuery, req.Header.Get("Authorization"), req.Header.Get("Cookie"), time.Now()})
	return len(r.seen)
}

// all gives the requests so far whose path starts with prefix.
func (r *recorder) all(prefix string) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []seen
	for _, s := range r.seen {
		if strings.HasPrefix(s.path, prefix) {
			out = append(out, s)
		}
	}
	return out
}

// serve starts a server; n counts its requests from 1.
func serve(t *testing.T, f func(w http.ResponseWriter, r *http.Request, n int)) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(w, r, rec.keep(r)) }))
	t.Cleanup(rec.Close)
	return rec
}

// jwt makes a token as registries do. Its signature is nobody's business here.
func jwt(claims map[string]any) string {
	raw, _ := json.Marshal(claims)
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + e(raw) + "." + e([]byte("signature"))
}

// A fakeRegistry wants bearer tokens and gives them at /v2/auth, as Quay does:
// user "bot" with "secret" gets what it asks for, nobody gets pull on public/*.
type fakeRegistry struct {
	*recorder
	realm  string        // "" is its own
	life   time.Duration // of tokens; 0 is an hour
	opaque bool          // tokens are no JWT
	most   int           // repositories that a token allows, of those asked for the first; 0 is any
	whole  bool          // instead, requests for more than most are refused
	closed string        // repositories with this in their names are nobody's
	mu     sync.Mutex
	tokens map[string]scopes
	serial int
	handle http.HandlerFunc // what is there for those who may
}

func newFakeRegistry(t *testing.T) *fakeRegistry {
	f := &fakeRegistry{tokens: map[string]scopes{}}
	f.recorder = serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { f.ServeHTTP(w, r) })
	return f
}

func (f *fakeRegistry) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/auth" {
		f.auth(w, r)
		return
	}
	value, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.mu.Lock()
	granted, known := f.tokens[value]
	f.mu.Unlock()
	kind, repo := classify(r.URL)
	need := scopes{}
	if repo != "" {
		need.add("repository:"+repo, derivedActions(kind, r.Method)...)
	}
	if !known || !granted.cover(need) {
		realm := f.realm
		if realm == "" {
			realm = f.URL + "/v2/auth"
		}
		challenge := fmt.Sprintf(`Bearer realm="%s",service="fake"`, realm)
		if l := need.list(nil); len(l) > 0 {
			challenge += fmt.Sprintf(`,scope="%s"`, strings.Join(l, " "))
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"access to the requested resource is not authorized"}]}`)
		return
	}
	if f.handle != nil {
		f.handle(w, r)
		return
	}
	fmt.Fprint(w, "ok")
}

func (f *fakeRegistry) auth(w http.ResponseWriter, r *http.Request) {
	user, password, login := r.BasicAuth()
	if login && (user != "bot" || password != "secret") {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no robot with %s and password %s"}]}`, user, password)
		return
	}
	list := r.URL.Query()["scope"]
	if f.whole && len(list) > f.most {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if f.most > 0 && len(list) > f.most {
		list = list[:f.most]
	}
	asked := parseScopes(list)
	granted := scopes{}
	var access []map[string]any
	for key, actions := range asked {
		if f.closed != "" && strings.Contains(key, f.closed) {
			actions = nil
		}
		if !login {
			if !strings.HasPrefix(key, "repository:public/") {
				actions = nil
			} else {
				actions = []string{"pull"}
			}
		}
		if len(actions) > 0 {
			granted.add(key, actions...)
		}
		kind, name, _ := strings.Cut(key, ":")
		access = append(access, map[string]any{"type": kind, "name": name, "actions": actions})
	}
	life := f.life
	if life == 0 {
		life = time.Hour
	}
	f.mu.Lock()
	f.serial++
	now := time.Now()
	value := fmt.Sprintf("opaque-%d", f.serial)
	if !f.opaque {
		value = jwt(map[string]any{"jti": f.serial, "iat": now.Unix(), "exp": now.Add(life).Unix(), "access": access})
	}
	f.tokens[value] = granted
	f.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"token": value})
}

func bot(host string) CredentialFunc { return Fixed(host, "bot", "secret") }

// newTest makes a transport that doesn't wait long between attempts.
func newTest(t *testing.T, o Options) *Transport {
	t.Helper()
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	tr.base = time.Millisecond
	t.Cleanup(tr.CloseIdle)
	return tr
}

// fetch sends a request and gives status and body.
func fetch(t *testing.T, client *http.Client, method, u string, scopes ...string) (int, string) {
	t.Helper()
	status, text, err := try(client, method, u, "", scopes...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, u, err)
	}
	return status, text
}

func try(client *http.Client, method, u, body string, scopes ...string) (int, string, error) {
	ctx := context.Background()
	if len(scopes) > 0 {
		ctx = auth.WithScopes(ctx, scopes...)
	}
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u, r)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

func hostOf(t *testing.T, s string) string {
	t.Helper()
	return mustURL(t, s).Host
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// onTheNet makes addresses count as public ones.
func onTheNet(addrs ...string) func(netip.Addr) netip.Addr {
	return func(a netip.Addr) netip.Addr {
		for _, s := range addrs {
			if a == netip.MustParseAddr(s) {
				return netip.MustParseAddr("198.51.100.1")
			}
		}
		return a
	}
}

// logTo takes everything that is logged.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
