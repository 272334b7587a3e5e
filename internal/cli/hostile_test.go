package cli_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/internal/cli"
)

// A result is what a run of the program left.
type result struct {
	status    int
	out, talk string
}

// program runs the program in this process, against plain HTTP.
func program(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	all := map[string]string{"HOME": t.TempDir(), "QUAYMASTER_PLAIN_HTTP": "true", "QUAYMASTER_RATE_LIMIT": "0"}
	for k, v := range env {
		all[k] = v
	}
	var out, talk bytes.Buffer
	status := cli.MainEnv(t.Context(), all, &out, &talk, args...)
	return result{status, out.String(), talk.String()}
}

// A hostile registry wants a login, and sends who has none, or who has one,
// elsewhere.
type hostile struct {
	challenge string                                                   // to who shows no Authorization; "" for none
	answer    func(w http.ResponseWriter, r *http.Request) (done bool) // else
	next      http.Handler                                             // what isn't answered; nil is 404
	asked     atomic.Int32                                             // requests with the login
}

const hostilePassword = "s3cret/of+the:one"

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.challenge != "" && r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", h.challenge)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if _, password, _ := r.BasicAuth(); password == hostilePassword {
		h.asked.Add(1)
	}
	if h.answer != nil && h.answer(w, r) {
		return
	}
	if h.next == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h.next.ServeHTTP(w, r)
}

// TestHostile lets registries lead the program to another host. Neither the
// login nor a trace of it gets there, except where the user names that host.
func TestHostile(t *testing.T) {
	const basic = `Basic realm="here"`
	// elsewhere answers requests whose path holds part by leading them to other.
	elsewhere := func(method, part string, status int) func(other string) *hostile {
		return func(other string) *hostile {
			return &hostile{challenge: basic, answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != method || !strings.Contains(r.URL.Path, part) {
					return false
				}
				w.Header().Set("Location", "http://"+other+r.URL.Path)
				w.WriteHeader(status)
				return true
			}}
		}
	}
	realm := func(other string) *hostile {
		return &hostile{challenge: fmt.Sprintf(`Bearer realm="http://%s/v2/auth",service=%q`, other, other)}
	}
	tests := []struct {
		name   string
		make   func(other string) *hostile
		push   bool // else pull
		repo   string
		realm  bool // --auth-realm names the other host
		status int
		talk   string // in what is said
		shown  []string
		login  bool // the registry itself got the login
	}{
		{name: "a foreign token service", make: realm, repo: "secret/app", status: 1, talk: "--auth-realm 127.0.0.1:"},
		{name: "a foreign token service that the user names", make: realm, repo: "secret/app", realm: true, shown: []string{"auth"}},
		{name: "a manifest at another host", make: elsewhere(http.MethodGet, "/manifests/", http.StatusTemporaryRedirect), repo: "kolla/nova-api", login: true},
		{name: "a private manifest at another host", make: elsewhere(http.MethodGet, "/manifests/", http.StatusTemporaryRedirect), repo: "secret/app", status: 1, talk: "401", login: true},
		{name: "a blob at another host", make: elsewhere(http.MethodGet, "/blobs/", http.StatusFound), repo: "kolla/nova-api", login: true},
		{name: "an upload at another host", make: elsewhere(http.MethodPost, "/blobs/uploads/", http.StatusAccepted), push: true, repo: "kolla/nova-api", status: 1, talk: "Failed: ", login: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := newFar()
			if err := fill(other.Server); err != nil {
				t.Fatal(err)
			}
			other.CreateUser("carol", hostilePassword)
			if err := other.Grant("secret/app", "carol", "write"); err != nil {
				t.Fatal(err)
			}
			other.run = other.Start()
			t.Cleanup(other.run.Close)
			h := tt.make(other.run.Host)
			if !tt.push {
				h.next = forward(other.run.Host)
			}
			server := httptest.NewServer(h)
			t.Cleanup(server.Close)
			host := strings.TrimPrefix(server.URL, "http://")

			dir := t.TempDir()
			place := "ocidir://" + filepath.Join(dir, "layout")
			args := []string{"process", "registry://" + host + "/" + tt.repo + ":2025.1", place}
			if tt.push {
				program(t, nil, "process", "registry://"+other.run.Host+"/"+tt.repo+":2025.1", place)
				other.reset()
				args = []string{"process", place, "registry://" + host}
			}
			args = append(args, "--debug", "--username", "carol", "--report", filepath.Join(dir, "report.json"))
			if tt.realm {
				args = append(args, "--auth-realm", other.run.Host)
			}
			got := program(t, map[string]string{"QUAYMASTER_PASSWORD": hostilePassword}, args...)
			if got.status != tt.status || !strings.Contains(got.talk, tt.talk) {
				t.Errorf("status %d, want %d and %q in\n%s", got.status, tt.status, tt.talk, got.talk)
			}
			if shown := other.shown(hostilePassword); fmt.Sprint(shown) != fmt.Sprint(tt.shown) {
				t.Errorf("the other host was shown the password at %q, want %q", shown, tt.shown)
			}
			if (h.asked.Load() > 0) != tt.login {
				t.Errorf("%d requests with the login, want some: %v", h.asked.Load(), tt.login)
			}
			if contains(got.out+got.talk, hostilePassword) {
				t.Errorf("the output shows the password:\n%s", got.talk)
			}
			if len(other.Counts()) == 0 {
				t.Error("the other host was never asked")
			}
		})
	}
}

// TestHostileAPI lets a Quay lead the API's client to another host, which is
// not shown the token.
func TestHostileAPI(t *testing.T) {
	other := newFar()
	if err := fill(other.Server); err != nil {
		t.Fatal(err)
	}
	other.run = other.Start()
	t.Cleanup(other.run.Close)
	probed := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("starred") == "true" { // the client asks whether its token is one
			probed = r.Header.Get("Authorization") == "Bearer "+hostilePassword
			_, _ = w.Write([]byte(`{"repositories": []}`)) // or the client says so
			return
		}
		http.Redirect(w, r, "http://"+other.run.Host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	got := program(t, map[string]string{"QUAY_API_TOKEN": hostilePassword}, "--debug", "list", "quay://kolla/nova-*:2025.1?host="+strings.TrimPrefix(server.URL, "http://"))
	if !probed || other.Counts()["api.repositories"] == 0 {
		t.Errorf("probed: %v, requests elsewhere %v\n%s", probed, other.Counts(), got.talk)
	}
	if areas := other.shown(hostilePassword); areas != nil || contains(got.out+got.talk, hostilePassword) {
		t.Errorf("the other host was shown the token at %q; said\n%s", areas, got.talk)
	}
}

// forward hands what a hostile registry doesn't answer itself to the registry
// at host, without a login that isn't host's.
func forward(host string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: host})
		if !strings.HasPrefix(p.In.Header.Get("Authorization"), "Bearer ") {
			p.Out.Header.Del("Authorization")
		}
	}}
}

func TestContains(t *testing.T) {
	for shift := range 4 {
		text := "Basic " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", shift)+":"+hostilePassword+"!"))
		if !contains(text, hostilePassword) || contains(text, "another password") {
			t.Errorf("%s with %d bytes in front", text, shift)
		}
	}
	if !contains("?token="+url.QueryEscape(hostilePassword), hostilePassword) {
		t.Error("escaped")
	}
}
