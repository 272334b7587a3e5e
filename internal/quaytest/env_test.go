package quaytest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// An env is a Quay with the contract's fixture: in org the repositories app
// (public, tags v1 v2 multi list artifact), team/svc (public), empty (public,
// no tags), many (public, 120 tags) and priv (private, tag v1).
type env struct {
	base, host string
	org        string
	prefix     string // of the repositories' names
	big        string // an organisation of 250 public repositories, "" for none

	admin, other   string // OAuth tokens: of org's admin, of a user without rights
	expired        string // an expired one, "" for none
	user, password string // the admin, for V2
	robot, secret  string // reads priv
	repoMirror     bool   // FEATURE_REPO_MIRROR is on

	fake  *quaytest.Server // nil for a live one
	clock *clock           // of the fake
	run   *quaytest.Run    // of the fake
	pace  time.Duration    // after a 429
}

// A clock stands still until it is told to go on.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newFakeEnv starts a fake that stops with the test.
func newFakeEnv(t *testing.T, o quaytest.Options) *env {
	t.Helper()
	e := &env{org: "pub", big: "big", user: "alice", password: "secret of alice", robot: "pub+bot", repoMirror: o.RepoMirror}
	e.clock = &clock{t: time.Now()}
	o.Now = e.clock.now
	s := quaytest.New(o)
	e.fake = s
	s.CreateUser("alice", e.password)
	s.CreateUser("bob", "secret of bob")
	s.CreateOrg("pub", "alice")
	s.CreateOrg("big")
	e.admin = s.AddToken("alice", "repo:admin", "repo:create")
	e.other = s.AddToken("bob", "repo:read", "repo:write")
	e.expired = s.AddTokenUntil("alice", e.clock.now().Add(-time.Minute), "repo:admin")
	e.secret = s.AddRobot("pub", "bot")
	for _, r := range fixture {
		check(t, s.CreateRepository("pub", r.name, r.public))
		for _, tag := range r.tags {
			check(t, s.Push(t.Context(), "pub/"+r.name, tag.name, tag.image))
		}
	}
	check(t, s.Grant("pub/priv", "pub+bot", "read"))
	check(t, s.BulkRepositories(t.Context(), "big", 250, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprintf("r%03d", 250-i)}
	}))
	run := s.Start()
	t.Cleanup(run.Close)
	e.base, e.host, e.run = run.URL, run.Host, run
	return e
}

func (e *env) now() time.Time {
	if e.clock != nil {
		return e.clock.now()
	}
	return time.Now()
}

// repo is the whole name of a repository of the fixture.
func (e *env) repo(name string) string { return e.org + "/" + e.prefix + name }

// api is the path of a repository in /api/v1.
func api(repo string) string { return "/api/v1/repository/" + repo }

// A reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

// json gives the body as JSON.
func (r reply) json(t *testing.T) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%d %q is no JSON: %v", r.status, r.body, err)
	}
	return v
}

// noRedirects is how the requests of the contract are sent: no client of ours.
var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// send sends one request. auth is an Authorization header; a body that isn't
// nil, a string or bytes is sent as JSON; headers are "Name: value".
func (e *env) send(t *testing.T, method, path, auth string, body any, headers ...string) reply {
	t.Helper()
	var raw []byte
	switch b := body.(type) {
	case nil:
	case string:
		raw = []byte(b)
	case []byte:
		raw = b
	default:
		var err error
		raw, err = json.Marshal(b)
		check(t, err)
		headers = append([]string{"Content-Type: application/json"}, headers...)
	}
	u := path
	if strings.HasPrefix(path, "/") {
		u = e.base + path
	}
	for {
		req, err := http.NewRequestWithContext(t.Context(), method, u, bytes.NewReader(raw))
		check(t, err)
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		resp, err := noRedirects.Do(req)
		check(t, err)
		text, err := io.ReadAll(resp.Body)
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode == http.StatusTooManyRequests && e.pace > 0 {
			time.Sleep(e.pace) // a live server's limit
			continue
		}
		return reply{resp.StatusCode, resp.Header, string(text)}
	}
}

func (e *env) get(t *testing.T, path, auth string, headers ...string) reply {
	t.Helper()
	return e.send(t, "GET", path, auth, nil, headers...)
}

// token asks for a V2 token; user "" asks as nobody.
func (e *env) token(t *testing.T, user, password string, scopes ...string) string {
	t.Helper()
	return "Bearer " + v2Token(t, e.base, e.host, user, password, scopes...)
}

// mine is a V2 token of the admin with pull and push on repo.
func (e *env) mine(t *testing.T, repo string) string {
	t.Helper()
	return e.token(t, e.user, e.password, "repository:"+repo+":pull,push")
}

// scratch makes a public repository that the test may change.
func (e *env) scratch(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("%sscratch-%d", e.prefix, time.Now().UnixNano())
	e.create(t, name, "public")
	return e.org + "/" + name
}

// create makes a repository that goes with the test.
func (e *env) create(t *testing.T, name, visibility string) {
	t.Helper()
	r := e.send(t, "POST", "/api/v1/repository", "Bearer "+e.admin, map[string]any{
		"namespace": e.org, "repository": name, "visibility": visibility, "description": "made by the tests of quaymaster",
	})
	if r.status != http.StatusCreated {
		t.Fatalf("create %s/%s: %d %s", e.org, name, r.status, r.body)
	}
	t.Cleanup(func() { e.remove(t, e.org+"/"+name) })
}

// remove removes a repository, after the test's context too.
func (e *env) remove(t *testing.T, repo string) {
	req, err := http.NewRequest("DELETE", e.base+api(repo), nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+e.admin)
	resp, err := noRedirects.Do(req)
	if err != nil {
		t.Errorf("remove %s: %v", repo, err)
		return
	}
	_ = resp.Body.Close()
}

// push pushes by HTTP; tag "" is by digest.
func (e *env) push(t *testing.T, repo, tag string, img imagetest.Image) {
	t.Helper()
	if err := img.Push(t.Context(), e.base, repo, tag, e.mine(t, repo)); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want compares; what says of what.
func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := reflect.ValueOf(&got).Elem(), reflect.ValueOf(&want).Elem(); reflect.DeepEqual(got, want) || g.Kind() == reflect.Slice && g.Len()+w.Len() == 0 {
		return
	}
	t.Errorf("%s: got %#v, want %#v", what, got, want)
}

// at goes down into JSON by keys and indexes; nil where there is nothing.
func at(v any, path ...any) any {
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// list is at for a list.
func list(v any, path ...any) []any {
	l, _ := at(v, path...).([]any)
	return l
}

// has reports whether an object has a key.
func has(v any, key string) bool {
	m, _ := v.(map[string]any)
	_, ok := m[key]
	return ok
}

// column gives one key of each object of a list.
func column(l []any, key string) (values []any) {
	for _, v := range l {
		values = append(values, at(v, key))
	}
	return values
}

// v2Token asks for a V2 token; user "" asks as nobody.
func v2Token(t *testing.T, base, host, user, password string, scopes ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/v2/auth?"+url.Values{"service": {host}, "scope": scopes}.Encode(), nil)
	check(t, err)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	defer resp.Body.Close()
	var body struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || body.Token == "" {
		t.Fatalf("GET /v2/auth: %s, no token (%v)", resp.Status, err)
	}
	return body.Token
}
