package transport

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// A47: neither over plain HTTP nor to another domain, unless the user names it.
func TestJudgeRealm(t *testing.T) {
	tests := []struct {
		name, registry, realm string
		named                 []string
		trusted, foreign, bad bool
	}{
		{"same host", "https://quay.io", "https://quay.io/v2/auth", nil, true, false, false},
		{"same host, default port written out", "https://quay.io", "https://QUAY.io:443/v2/auth", nil, true, false, false},
		{"docker.io", "https://registry-1.docker.io", "https://auth.docker.io/token", nil, true, true, false},
		{"same registrable domain, other port", "https://registry.example.co.uk:5000", "https://auth.example.co.uk:8443/t", nil, true, true, false},
		{"other owner under one public suffix", "https://a.co.uk", "https://b.co.uk/t", nil, false, true, false},
		{"other customer of one host", "https://a.github.io", "https://b.github.io/t", nil, false, true, false},
		{"other domain", "https://registry.example.com", "https://auth.example.net/t", nil, false, true, false},
		{"other domain, named", "https://registry.example.com", "https://auth.example.net/t", []string{"auth.example.net"}, true, false, false},
		{"named with another port", "https://registry.example.com", "https://auth.example.net:444/t", []string{"auth.example.net:443"}, false, true, false},
		{"looks like the host", "https://quay.io", "https://quay.io.evil.example/t", nil, false, true, false},
		{"address, other port", "http://127.0.0.1:5000", "http://127.0.0.1:5001/t", nil, false, true, false},
		{"localhost, other port", "http://localhost:5000", "http://localhost:5001/t", nil, false, true, false},
		{"another service of the cluster", "https://registry.a.svc.cluster.local", "https://x.b.svc.cluster.local/t", nil, false, true, false},
		{"plain HTTP for HTTPS", "https://quay.io", "http://quay.io/v2/auth", nil, false, false, true},
		{"plain HTTP named by the user too", "https://quay.io", "http://auth.quay.io/t", []string{"auth.quay.io"}, false, false, true},
		{"file", "https://quay.io", "file:///etc/passwd", nil, false, false, true},
		{"user and password", "https://quay.io", "https://a:b@quay.io/t", nil, false, false, true},
		{"no host", "https://quay.io", "/v2/auth", nil, false, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			registry, err := url.Parse(tt.registry)
			if err != nil {
				t.Fatal(err)
			}
			r, err := judgeRealm(registry, tt.realm, tt.named)
			if got, want := fmt.Sprint(r.trusted, r.foreign, err != nil), fmt.Sprint(tt.trusted, tt.foreign, tt.bad); got != want {
				t.Errorf("got trusted, foreign, refused = %s, want %s", got, want)
			}
		})
	}
}

// A47: a foreign realm gets no login. Ours asks it for a stranger's token, which
// public content may need, and says what to do if that isn't enough.
func TestForeignRealmGetsNoCredentials(t *testing.T) {
	reg := newFakeRegistry(t)
	foreign := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		r.Header.Del("Authorization") // whatever it got, it acts for nobody
		reg.auth(w, r)
	})
	reg.realm = foreign.URL + "/token"
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	_, err := c.Get(reg.URL + "/v2/a/b/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Get(reg.URL + "/v2/a/b/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	err = ResponseError(resp)
	resp.Body.Close()
	if err == nil || !strings.Contains(err.Error(), "--auth-realm "+hostOf(t, foreign.URL)) {
		t.Errorf("got %v, want a hint at --auth-realm", err)
	}
	if len(foreign.all("/")) == 0 {
		t.Error("the foreign realm was not asked at all")
	}
	for _, s := range foreign.all("/") {
		if s.auth != "" {
			t.Errorf("foreign realm got %q", s.auth)
		}
	}

	named := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL)), AuthRealms: []string{hostOf(t, foreign.URL)}}).Client()
	fetch(t, named, "GET", reg.URL+"/v2/a/b/manifests/v1")
	all := foreign.all("/")
	if last := all[len(all)-1]; !strings.HasPrefix(last.auth, "Basic ") {
		t.Errorf("a realm that the user named got %q, want the login", last.auth)
	}
}

func TestTokenRequestIsNotRedirected(t *testing.T) {
	target := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	bouncer := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/v2/" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
			w.WriteHeader(401)
			return
		}
		http.Redirect(w, r, target.URL+"/token", http.StatusTemporaryRedirect)
	})
	c := newTest(t, Options{Credentials: bot(hostOf(t, bouncer.URL))}).Client()
	if _, _, err := try(c, "GET", bouncer.URL+"/v2/a/manifests/v1", ""); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("got %v, want a refusal", err)
	}
	if n := len(target.all("/")); n != 0 {
		t.Errorf("the target got %d requests, want 0", n)
	}
}

// second starts a server at another loopback address, which tests make public.
func second(t *testing.T, addr string, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestPublicRegistryNamesPrivateAddresses(t *testing.T) {
	inner := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, `{"token":"x"}`) })
	_, port, err := net.SplitHostPort(hostOf(t, inner.URL))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{
		"address": inner.URL,
		"name":    "http://localhost:" + port,
		"late":    "http://cdn.example.com:" + port, // resolves to loopback at last
	}
	for name, target := range names {
		for _, what := range []string{"realm", "redirect", "location"} {
			for _, isPublic := range []bool{true, false} {
				t.Run(fmt.Sprint(name, " ", what, " public=", isPublic), func(t *testing.T) {
					before := len(inner.all("/"))
					outer := second(t, "127.0.0.2", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if what == "realm" && r.Header.Get("Authorization") == "" {
							w.Header().Set("WWW-Authenticate", `Bearer realm="`+target+`/token"`)
							w.WriteHeader(401)
						} else if what == "redirect" {
							http.Redirect(w, r, target+"/blob", http.StatusFound)
						}
					}))
					tr := newTest(t, Options{})
					if isPublic {
						tr.pretend = onTheNet("127.0.0.2")
					}
					tr.resolve = func(addr string) string { return strings.Replace(addr, "cdn.example.com", "127.0.0.1", 1) }
					_, _, err := try(tr.Client(), "GET", outer.URL+"/v2/a/blobs/sha256:0", "")
					if what == "location" {
						if err != nil {
							t.Fatal(err)
						}
						origin, perr := url.Parse(outer.URL)
						if perr != nil {
							t.Fatal(perr)
						}
						req, rerr := http.NewRequestWithContext(WithOrigin(t.Context(), origin), "PATCH", target+"/upload", strings.NewReader("x"))
						if rerr != nil {
							t.Fatal(rerr)
						}
						var resp *http.Response
						if resp, err = tr.Client().Do(req); err == nil {
							resp.Body.Close()
						}
					}
					asked := len(inner.all("/")) > before
					if isPublic && (err == nil || asked || !strings.Contains(err.Error(), "private address")) {
						t.Errorf("got %v, asked %v; want a refusal", err, asked)
					}
					if !isPublic && (err != nil || !asked) {
						t.Errorf("got %v, asked %v; want it allowed", err, asked)
					}
				})
			}
		}
	}
}

func TestGuard(t *testing.T) {
	tests := []struct {
		addr           string
		local, private bool // forbidden
	}{
		{"127.0.0.1", true, true}, {"::1", true, true}, {"::ffff:127.0.0.1", true, true},
		{"169.254.169.254", true, true}, {"fe80::1%eth0", true, true}, {"0.0.0.0", true, true}, {"::", true, true},
		{"fd00:ec2::254", true, true}, {"100.100.100.200", true, true}, {"224.0.0.1", true, true},
		{"10.0.0.1", false, true}, {"192.168.1.1", false, true}, {"100.64.0.1", false, true}, {"fd12::1", false, true},
		{"1.1.1.1", false, false}, {"2606:4700::1111", false, false},
	}
	for _, tt := range tests {
		a := netip.MustParseAddr(tt.addr)
		if got := guardLocal.forbids(a); got != tt.local {
			t.Errorf("%s: local guard forbids: got %v, want %v", tt.addr, got, tt.local)
		}
		if got := guardPrivate.forbids(a); got != tt.private {
			t.Errorf("%s: private guard forbids: got %v, want %v", tt.addr, got, tt.private)
		}
		if open.forbids(a) {
			t.Errorf("%s: no guard forbids it", tt.addr)
		}
	}
}
