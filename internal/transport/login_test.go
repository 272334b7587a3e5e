package transport

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A46: 401, a token by the login, 200 with the token.
func TestTokenIsAskedForBeforeTheSecondRepository(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	for _, repo := range []string{"a/one", "a/two", "a/three"} {
		if status, _ := fetch(t, c, "GET", reg.URL+"/v2/"+repo+"/manifests/v1"); status != 200 {
			t.Errorf("%s: got %d, want 200", repo, status)
		}
	}
	var got []string
	for _, s := range reg.all("/") {
		kind, _, _ := strings.Cut(s.auth, " ")
		got = append(got, s.path+" "+kind)
	}
	want := []string{
		"/v2/ ",
		"/v2/auth Basic", "/v2/a/one/manifests/v1 Bearer",
		"/v2/auth Basic", "/v2/a/two/manifests/v1 Bearer",
		"/v2/auth Basic", "/v2/a/three/manifests/v1 Bearer",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestOneTokenForSeveralRepositories(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	var hints []string
	for i := range 30 {
		hints = append(hints, fmt.Sprintf("repository:org/r%02d:pull", i))
	}
	for i := range 19 { // the first asks for itself and 19 more
		fetch(t, c, "GET", fmt.Sprintf("%s/v2/org/r%02d/manifests/v1", reg.URL, i), hints...)
	}
	asked := reg.all("/v2/auth")
	if len(asked) != 1 {
		t.Fatalf("got %d token requests, want 1", len(asked))
	}
	if n := strings.Count(asked[0].query, "scope="); n != 20 {
		t.Errorf("got %d scopes in a request, want 20", n)
	}
}

func TestWiderTokenIsUsed(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	fetch(t, c, "POST", reg.URL+"/v2/a/b/blobs/uploads/", "repository:a/b:pull,push")
	fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/v1", "repository:a/b:pull")
	fetch(t, c, "HEAD", reg.URL+"/v2/a/b/blobs/sha256:00")
	if n := len(reg.all("/v2/auth")); n != 1 {
		t.Errorf("got %d token requests, want 1", n)
	}
}

// A46: requests at once for one repository make one token request, also where all
// are refused at once.
func TestSingleFlight(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if status, _, err := try(c, "GET", reg.URL+"/v2/a/b/manifests/v1", ""); err != nil || status != 200 {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if n := len(reg.all("/v2/auth")); n != 1 {
		t.Errorf("got %d token requests, want 1", n)
	}
	// All tokens revoked: a hundred 401s at once, one new token.
	reg.revoke()
	for range 100 {
		wg.Go(func() {
			if status, _, err := try(c, "GET", reg.URL+"/v2/a/b/manifests/v1", ""); err != nil || status != 200 {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if n := len(reg.all("/v2/auth")); n != 2 {
		t.Errorf("got %d token requests, want 2", n)
	}
}

// A46: a 401 to a fresh token is the answer.
func TestOneFreshTokenOn401(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	reg.handle = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/v2/auth",service="fake",scope="repository:a/b:pull"`, reg.URL))
		w.WriteHeader(401) // whatever the token
	}
	status, _ := fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/v1")
	if status != 401 {
		t.Errorf("got %d, want the 401", status)
	}
	if n := len(reg.all("/v2/auth")); n > 2 {
		t.Errorf("got %d token requests, want at most 2", n)
	}
	if n := len(reg.all("/v2/a/b/")); n > 2 {
		t.Errorf("got %d requests, want at most 2", n)
	}
}

func TestSmallerGrantIsSentOnce(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{}).Client()
	for range 2 {
		if status, _ := fetch(t, c, "GET", reg.URL+"/v2/private/b/manifests/v1"); status != 401 {
			t.Errorf("got %d, want 401", status)
		}
	}
	// The first learns the realm by its 401; its token grants nothing.
	if n := len(reg.all("/v2/private/")); n > 4 {
		t.Errorf("got %d requests, want at most 4", n)
	}
	for _, s := range reg.all("/v2/auth") {
		if s.auth != "" {
			t.Errorf("anonymous token was asked for with %q", s.auth)
		}
	}
	if status, _ := fetch(t, c, "GET", reg.URL+"/v2/public/b/manifests/v1"); status != 200 {
		t.Errorf("public: got %d, want 200", status)
	}
}

func TestExpiredTokenIsRenewedWithout401(t *testing.T) {
	reg := newFakeRegistry(t)
	reg.life = 2 * time.Second
	tr := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))})
	c := tr.Client()
	fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/v1")
	// The end of its life comes sooner for this one.
	for _, s := range tr.sessions {
		for _, tok := range s.tokens.order {
			if left := time.Until(tok.expires); left > 2*time.Second {
				t.Errorf("a token of 2 s is kept for %v", left)
			}
			tok.expires = time.Now()
		}
	}
	fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/v1")
	if n := len(reg.all("/v2/auth")); n != 2 {
		t.Errorf("got %d token requests, want 2", n)
	}
	if n := len(reg.all("/v2/a/b/")); n != 2 {
		t.Errorf("got %d requests, want 2: no 401", n)
	}
}

// A45: Basic is no error but a login.
func TestBasicRegistry(t *testing.T) {
	reg := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if u, p, _ := r.BasicAuth(); u != "bot" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
		}
	})
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	for range 2 {
		if status, _ := fetch(t, c, "GET", reg.URL+"/v2/a/manifests/v1"); status != 200 {
			t.Errorf("got %d, want 200", status)
		}
	}
	if n := len(reg.all("/")); n != 3 {
		t.Errorf("got %d requests, want 3: one probe, two reads", n)
	}
	wrong := newTest(t, Options{Credentials: Fixed(hostOf(t, reg.URL), "bot", "wrong")}).Client()
	if status, _ := fetch(t, wrong, "GET", reg.URL+"/v2/a/manifests/v1"); status != 401 {
		t.Errorf("wrong password: got %d, want 401", status)
	}
	if status, _ := fetch(t, newTest(t, Options{}).Client(), "GET", reg.URL+"/v2/a/manifests/v1"); status != 401 {
		t.Errorf("anonymous: got %d, want 401", status)
	}
}

// A45: a 401 that names no way to sign in is the answer, and nothing is shown.
func Test401WithoutAChallenge(t *testing.T) {
	for name, header := range map[string]string{"no header": "", "no scheme that is known": `Negotiate abc`, "no realm": `Bearer service="x"`} {
		reg := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
			if header != "" {
				w.Header().Set("WWW-Authenticate", header)
			}
			w.WriteHeader(401)
		})
		c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
		if status, _, err := try(c, "GET", reg.URL+"/v2/a/manifests/v1", ""); status != 401 && err == nil {
			t.Errorf("%s: got %d, %v", name, status, err)
		}
		for _, s := range reg.all("/") {
			if s.auth != "" {
				t.Errorf("%s: %q was shown", name, s.auth)
			}
		}
		if n := len(reg.all("/")); n > 3 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

func TestUploadBodySurvivesNoFirst401(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	status, _, err := try(c, "PUT", reg.URL+"/v2/a/b/manifests/v1", "{}")
	if err != nil || status != 200 {
		t.Errorf("got %d, %v", status, err)
	}
	if n := len(reg.all("/v2/a/b/")); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// Quay answers the catalog to anybody, and refuses a token without a scope to
// those who don't sign in.
func TestAnonymousCatalogAsksForNoToken(t *testing.T) {
	reg := newFakeRegistry(t)
	front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/v2/_catalog" {
			fmt.Fprint(w, `{"repositories":[]}`)
			return
		}
		reg.ServeHTTP(w, r)
	})
	reg.realm = front.URL + "/v2/auth"
	c := newTest(t, Options{}).Client()
	fetch(t, c, "GET", front.URL+"/v2/private/x/manifests/v1") // the realm is known now
	before := len(front.all("/v2/auth"))
	if status, _ := fetch(t, c, "GET", front.URL+"/v2/_catalog"); status != 200 || len(front.all("/v2/auth")) != before {
		t.Errorf("got %d and %d tokens asked for", status, len(front.all("/v2/auth"))-before)
	}
}

// Public repositories of Quay need no token: none is asked for, even when one
// private repository has made the realm known.
func TestReadableWithoutToken(t *testing.T) {
	reg := newFakeRegistry(t)
	front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if strings.HasPrefix(r.URL.Path, "/v2/public/") && r.Header.Get("Authorization") == "" {
			return
		}
		reg.ServeHTTP(w, r)
	})
	reg.realm = front.URL + "/v2/auth"
	c := newTest(t, Options{}).Client()
	for _, repo := range []string{"public/a", "private/b", "public/c", "public/d"} {
		fetch(t, c, "GET", front.URL+"/v2/"+repo+"/manifests/v1")
	}
	if n := len(front.all("/v2/auth")); n != 1 {
		t.Errorf("got %d tokens asked for, want 1, for the private one", n)
	}
}

// Helpers of cloud registries give logins that hold for hours: a run that is
// longer gets the next one.
func TestNewLoginIsUsed(t *testing.T) {
	var password atomic.Value
	password.Store("old")
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if _, p, _ := r.BasicAuth(); p != password.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	tr := newTest(t, Options{Credentials: func(context.Context, string, string) (Credential, error) {
		return Credential{Username: "u", Password: password.Load().(string)}, nil
	}})
	for _, p := range []string{"old", "new"} {
		password.Store(p)
		if status, _ := fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x"); status != 200 {
			t.Errorf("%s: got %d", p, status)
		}
	}
}
