package transport

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRedirectToAnotherHostLosesSecrets(t *testing.T) {
	cdn := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, "bytes") })
	reg := newFakeRegistry(t)
	reg.handle = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, cdn.URL+"/store?X-Amz-Signature=hush", http.StatusFound)
	}
	tr := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))})
	if status, text := fetch(t, tr.Client(), "GET", reg.URL+"/v2/a/b/blobs/sha256:0"); status != 200 || text != "bytes" {
		t.Errorf("got %d %q", status, text)
	}
	// A header of the caller's own, as the client of Quay's API sets it.
	api := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, cdn.URL+"/api", 308) })
	req, err := http.NewRequestWithContext(t.Context(), "GET", api.URL+"/api/v1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer hush")
	req.Header.Set("Cookie", "session=hush")
	resp, err := tr.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(cdn.all("/")) != 2 {
		t.Fatalf("got %d requests at the CDN, want 2", len(cdn.all("/")))
	}
	for _, s := range cdn.all("/") {
		if s.auth != "" || s.cookie != "" {
			t.Errorf("%s got %q and %q", s.path, s.auth, s.cookie)
		}
	}
	if api.all("/")[0].auth != "Bearer hush" {
		t.Errorf("the API got %q, want the caller's own header", api.all("/")[0].auth)
	}
}

func TestRedirectWithinTheHost(t *testing.T) {
	api := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if !strings.HasSuffix(r.URL.Path, "/") {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusPermanentRedirect)
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", api.URL+"/api/v1/repository/a/b/tag", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token")
	resp, err := newTest(t, Options{}).Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if all := api.all("/"); len(all) != 2 || all[1].auth != "Bearer token" {
		t.Errorf("got %+v, want the header twice", all)
	}

	// Quay's storage proxy is on the same host and is no part of the registry.
	reg := newFakeRegistry(t)
	reg.handle = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/_storage_proxy/x", 302) }
	front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/_storage_proxy/x" {
			return
		}
		reg.ServeHTTP(w, r)
	})
	reg.realm = front.URL + "/v2/auth"
	fetch(t, newTest(t, Options{Credentials: bot(hostOf(t, front.URL))}).Client(), "GET", front.URL+"/v2/a/b/blobs/sha256:0")
	if got := front.all("/_storage_proxy"); len(got) != 1 || got[0].auth != "" {
		t.Errorf("storage proxy got %+v, want one request without a token", got)
	}
}

func TestRedirectLimits(t *testing.T) {
	loop := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, "/v2/a/blobs/x", 302) })
	if _, _, err := try(newTest(t, Options{}).Client(), "GET", loop.URL+"/v2/a/blobs/x", ""); err == nil || !strings.Contains(err.Error(), "10 redirects") {
		t.Errorf("loop: got %v", err)
	}
	if n := len(loop.all("/")); n != maxHops+1 {
		t.Errorf("loop: got %d requests, want %d", n, maxHops+1)
	}

	plain := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL+"/x?sig=hush", 302) }))
	defer secure.Close()
	_, _, err := try(newTest(t, Options{SkipVerify: true}).Client(), "GET", secure.URL+"/v2/a/blobs/x", "")
	if err == nil || strings.Contains(err.Error(), "hush") || len(plain.all("/")) != 0 {
		t.Errorf("https to http: got %v, %d requests", err, len(plain.all("/")))
	}

	// A write is not carried to another host.
	mover := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, plain.URL+"/x", 307) })
	if _, _, err := try(newTest(t, Options{}).Client(), "PUT", mover.URL+"/v2/a/manifests/x", "{}"); err == nil || len(plain.all("/")) != 0 {
		t.Errorf("write: got %v, %d requests", err, len(plain.all("/")))
	}
}

func TestExpiredSignatureIsRenewed(t *testing.T) {
	cdn := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Query().Get("sig") == "1" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	reg := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		http.Redirect(w, r, fmt.Sprintf("%s/x?sig=%d", cdn.URL, n), 302)
	})
	if status, _ := fetch(t, newTest(t, Options{}).Client(), "GET", reg.URL+"/v2/a/blobs/x"); status != 200 {
		t.Errorf("got %d, want 200 from the second signature", status)
	}
}

func TestLocationElsewhereGetsNoCredentials(t *testing.T) {
	reg, other := newFakeRegistry(t), newFakeRegistry(t)
	both := First(bot(hostOf(t, reg.URL)), bot(hostOf(t, other.URL)))
	c := newTest(t, Options{Credentials: both}).Client()
	fetch(t, c, "GET", reg.URL+"/v2/a/b/manifests/v1")
	origin := mustURL(t, reg.URL)
	req, err := http.NewRequestWithContext(WithOrigin(t.Context(), origin), "PATCH", other.URL+"/v2/a/b/blobs/uploads/1", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, s := range other.all("/") {
		if s.auth != "" {
			t.Errorf("%s got %q", s.path, s.auth)
		}
	}
	req, err = http.NewRequestWithContext(WithOrigin(t.Context(), mustURL(t, "https://quay.io")), "GET", other.URL+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a location led from HTTPS to plain HTTP")
	}
}

// A47: certificates are checked, unless the user says otherwise.
func TestCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	dir := t.TempDir()
	host := hostOf(t, s.URL)
	for name, data := range map[string][]byte{"ca.pem": ca, "empty.pem": []byte("x"), "certs.d/" + host + "/ca.crt": ca, "broken/" + host + "/client.cert": ca} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, o := range map[string]Options{
		"CA file":     {CAFiles: []string{filepath.Join(dir, "ca.pem")}},
		"certs.d":     {CertDir: filepath.Join(dir, "certs.d")},
		"skip verify": {SkipVerify: true},
	} {
		if status, text := fetch(t, newTest(t, o).Client(), "GET", s.URL); status != 200 || text != "HTTP/2.0" {
			t.Errorf("%s: got %d %q, want HTTP/2.0", name, status, text)
		}
	}
	tr := newTest(t, Options{})
	_, _, err := try(tr.Client(), "GET", s.URL, "")
	if err == nil || retryableError(err) {
		t.Errorf("unknown authority: got %v, want a final error", err)
	}
	if n := tr.Stats().Sum().Requests[Other]; n != 1 {
		t.Errorf("unknown authority: got %d requests, want 1", n)
	}
	if _, _, err := try(newTest(t, Options{CertDir: filepath.Join(dir, "broken")}).Client(), "GET", s.URL, ""); err == nil || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("certificate without key: got %v", err)
	}
	if _, err := New(Options{CAFiles: []string{filepath.Join(dir, "empty.pem")}}); err == nil {
		t.Error("a CA file without certificates was taken")
	}
}
