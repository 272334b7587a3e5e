package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A45: a token may be called access_token.
func TestTokenLife(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const skew = 1000 * time.Hour // of the service's clock
	unix := func(d time.Duration) int64 { return now.Add(skew + d).Unix() }
	tests := []struct {
		name string
		body map[string]any
		date bool
		want time.Duration // before renewal is due; a tenth, at most 30 s, is left
	}{
		{"JWT of Quay", map[string]any{"token": jwt(map[string]any{"iat": unix(0), "nbf": unix(0), "exp": unix(time.Hour)})}, true, time.Hour - 30*time.Second},
		{"JWT, no Date", map[string]any{"token": jwt(map[string]any{"iat": unix(0), "exp": unix(time.Hour)})}, false, time.Hour - 30*time.Second},
		{"JWT from a cache", map[string]any{"token": jwt(map[string]any{"iat": unix(-50 * time.Minute), "exp": unix(10 * time.Minute)})}, true, 10*time.Minute - 30*time.Second},
		{"JWT and expires_in, the sooner", map[string]any{"token": jwt(map[string]any{"iat": unix(0), "exp": unix(time.Hour)}), "expires_in": 300}, true, 270 * time.Second},
		{"JWT without exp", map[string]any{"token": jwt(map[string]any{"sub": "x"})}, true, 54 * time.Second},
		{"opaque", map[string]any{"token": "abc"}, true, 54 * time.Second},
		{"opaque, expires_in", map[string]any{"access_token": "abc", "expires_in": 200}, true, 180 * time.Second},
		{"expires_in below a minute", map[string]any{"token": "abc", "expires_in": 10}, true, 9 * time.Second},
		{"expires_in is a string", map[string]any{"token": "abc", "expires_in": "200"}, true, 180 * time.Second},
		{"expires_in is nonsense", map[string]any{"token": "abc", "expires_in": []int{1}}, true, 54 * time.Second},
		{"expires_in is negative", map[string]any{"token": "abc", "expires_in": -1}, true, 54 * time.Second},
		{"expires_in is absurd", map[string]any{"token": "abc", "expires_in": 1e300}, true, maxTokenLife - 30*time.Second},
		{"issued a while ago", map[string]any{"token": "abc", "expires_in": 300, "issued_at": now.Add(skew - 100*time.Second).Format(time.RFC3339)}, true, 180 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := json.Marshal(tt.body)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(raw)))}
			if tt.date {
				resp.Header.Set("Date", now.Add(skew).Format(http.TimeFormat))
			}
			tok, err := readToken(resp, scopes{}, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := tok.expires.Sub(now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A45: an answer without a token is an error.
func TestUnusableTokens(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://quay.io/v2/auth", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty": "", "HTML": "<html>", "no token": "{}", "line end in it": `{"token":"hush\nX-Evil: 1"}`, "not a string": `{"token":1}`,
		"endless": `{"token":"` + strings.Repeat("x", maxTokenBody) + `"}`,
	} {
		_, err := readToken(&http.Response{Request: req, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, scopes{}, time.Now())
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What a token says that it grants is kept in bounds.
func TestManyGrantedScopes(t *testing.T) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	var list []access
	for i := range 500 {
		list = append(list, access{"repository", fmt.Sprint("a/r", i), []string{"pull"}})
	}
	raw, err := json.Marshal(map[string]any{"access": list})
	if err != nil {
		t.Fatal(err)
	}
	value := "e30." + base64.RawURLEncoding.EncodeToString(raw) + ".sig"
	asked := parseScopes([]string{"repository:a/r7:pull"})
	tok, err := readToken(&http.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"token":"` + value + `"}`))}, asked, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(tok.granted) > maxGranted || !tok.granted.cover(asked) {
		t.Errorf("got %d scopes", len(tok.granted))
	}
}

func TestIdentityToken(t *testing.T) {
	reg := newFakeRegistry(t)
	front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path != "/v2/auth" {
			reg.ServeHTTP(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(r.Method, r.PostForm["grant_type"], r.PostForm["refresh_token"], r.PostForm["scope"], r.PostForm["service"]); got != "POST[refresh_token] [refresh-me] [repository:a/b:pull] [fake]" {
			t.Errorf("got %s", got)
		}
		reg.mu.Lock()
		reg.tokens["minted"] = parseScopes([]string{"repository:a/b:pull"})
		reg.mu.Unlock()
		fmt.Fprint(w, `{"access_token":"minted","expires_in":300}`)
	})
	reg.realm = front.URL + "/v2/auth"
	cred := func(context.Context, string, string) (Credential, error) {
		return Credential{IdentityToken: "refresh-me"}, nil
	}
	if status, _ := fetch(t, newTest(t, Options{Credentials: cred}).Client(), "GET", front.URL+"/v2/a/b/manifests/x"); status != 200 {
		t.Errorf("got %d", status)
	}
}

func TestRegistryToken(t *testing.T) {
	reg := newFakeRegistry(t)
	reg.tokens["given"] = parseScopes([]string{"repository:a/b:pull"})
	cred := func(context.Context, string, string) (Credential, error) {
		return Credential{RegistryToken: "given"}, nil
	}
	c := newTest(t, Options{Credentials: cred}).Client()
	if status, _ := fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/x"); status != 200 {
		t.Errorf("got %d", status)
	}
	if status, _ := fetch(t, c, "GET", reg.URL+"/v2/other/manifests/x"); status != 401 {
		t.Errorf("elsewhere: got %d, want 401", status)
	}
	if n := len(reg.all("/")); n != 2 {
		t.Errorf("got %d requests, want 2", n)
	}
}

// A service that refuses the whole request for one of its scopes.
func TestOneRefusedScopeIsNotAll(t *testing.T) {
	reg := newFakeRegistry(t)
	front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if strings.Contains(r.URL.RawQuery, "forbidden") {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		reg.ServeHTTP(w, r)
	})
	reg.realm = front.URL + "/v2/auth"
	c := newTest(t, Options{Credentials: bot(hostOf(t, front.URL))}).Client()
	if status, _ := fetch(t, c, "GET", front.URL+"/v2/a/b/manifests/x", "repository:a/b:pull", "repository:forbidden/x:pull"); status != 200 {
		t.Errorf("got %d", status)
	}
}

func TestMountNeedsPullOnItsOrigin(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	fetch(t, c, "GET", reg.URL+"/v2/dst/x/manifests/v", "repository:dst/x:pull,push")
	fetch(t, c, "POST", reg.URL+"/v2/dst/x/blobs/uploads/?mount=sha256:0&from=src/y", "repository:dst/x:pull,push")
	all := reg.all("/v2/auth")
	if len(all) != 2 || !strings.Contains(all[1].query, "repository%3Asrc%2Fy%3Apull") || !strings.Contains(all[1].query, "dst") {
		t.Errorf("got %+v, want a second token for both", all)
	}
}

func TestCancelledFlightIsTakenOver(t *testing.T) {
	s := &session{}
	need := parseScopes([]string{"repository:a:pull"})
	first, cancel := context.WithCancel(t.Context())
	flying := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := s.token(first, want{need: need, fetch: func(ctx context.Context, _, _ scopes) (*token, error) {
			close(flying)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("first: got %v", err)
		}
	})
	<-flying
	wg.Go(func() {
		tok, _, err := s.token(t.Context(), want{need: need, fetch: func(_ context.Context, _, all scopes) (*token, error) {
			return &token{value: "x", asked: all, expires: time.Now().Add(time.Hour)}, nil
		}})
		if err != nil || tok.value != "x" {
			t.Errorf("second: got %v, %v", tok, err)
		}
	})
	cancel()
	wg.Wait()
}

func TestScopes(t *testing.T) {
	tests := []struct {
		have, need []string
		want       bool
	}{
		{[]string{"repository:a/b:pull,push"}, []string{"repository:a/b:pull"}, true},
		{[]string{"repository:a/b:*"}, []string{"repository:a/b:pull,push"}, true},
		{[]string{"repository:a/b:pull"}, []string{"repository:a/b:push"}, false},
		{[]string{"repository:a/b:pull"}, []string{"repository:a/bb:pull"}, false},
		{[]string{"repository:a/b:pull", "repository:c:pull"}, []string{"repository:c:pull", "repository:a/b:pull"}, true},
		{[]string{"repository:host:5000/a:pull"}, []string{"repository:host:5000/a:pull"}, true},
		{nil, nil, true},
		{nil, []string{"registry:catalog:*"}, false},
	}
	for _, tt := range tests {
		if got := parseScopes(tt.have).cover(parseScopes(tt.need)); got != tt.want {
			t.Errorf("%q covers %q: got %v", tt.have, tt.need, got)
		}
	}
}

func TestParseChallenges(t *testing.T) {
	tests := []struct{ in, want string }{
		{`Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:a/b:pull"`, "[bearer https://quay.io/v2/auth quay.io [repository:a/b:pull]]"},
		{`bearer  Realm = "x" , service=y`, "[bearer x y []]"},
		{`Basic realm="with \"quotes\" and, comma"`, `[basic with "quotes" and, comma  []]`},
		{`Basic realm="a", Bearer realm="b",service="c"`, "[basic a  [] bearer b c []]"},
		{`Negotiate, Bearer realm="b"`, "[negotiate   [] bearer b  []]"},
		{`Negotiate abc==, Bearer realm="b"`, "[negotiate   [] bearer b  []]"},
		{`Bearer realm="a",realm="b"`, "[]"},
		{`Bearer realm="unfinished`, "[]"},
		{"Bearer realm=\"line\nend\"", "[]"},
		{`Bearer realm="a" service="b"`, "[]"},
		{``, "[]"}, {`,,,`, "[]"}, {`"`, "[]"}, {`Bearer`, "[bearer   []]"},
		{`Bearer realm="` + strings.Repeat("x", maxChallenge) + `"`, "[]"},
	}
	for _, tt := range tests {
		got := []any{}
		for _, c := range parseChallenges(tt.in) {
			got = append(got, c.scheme, c.realm, c.service, c.scope.list(nil))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.in, got, tt.want)
		}
	}
}
