package quay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

const digest1 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// serve starts a server and gives a client of it with the token "good".
func serve(t *testing.T, h http.HandlerFunc) *quay.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &quay.Client{Host: strings.TrimPrefix(s.URL, "http://"), Token: "good", HTTP: s.Client(), PlainHTTP: true}
}

// reply answers every request with status and body.
func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestStatusError(t *testing.T) {
	tests := []struct {
		name       string
		status     int
		body       string
		kind       error // nil: none of oci's
		notVisible bool
		want       string // at the end of the text
	}{
		{"exception", 401, `{"detail":"Requires authentication","error_message":"Requires authentication","error_type":"invalid_token","title":"invalid_token","type":"https://h/api/v1/error/invalid_token","status":401}`,
			oci.ErrDenied, true, "GET /api/v1/repository/o/r: 401 Unauthorized: Requires authentication"},
		{"scope", 403, `{"detail":"Unauthorized","error_type":"insufficient_scope"}`, oci.ErrDenied, true, "403 Forbidden: Unauthorized"},
		{"message", 404, `{"message":"Not Found"}`, oci.ErrNotFound, true, "404 Not Found: Not Found"},
		{"message by parameter", 400, `{"message":{"limit":"Max 100."}}`, nil, false, "400 Bad Request: limit: Max 100."},
		{"error as HTML", 403, `{"error":"CSRF token was invalid or missing."}`, oci.ErrDenied, true, "403 Forbidden: CSRF token was invalid or missing."},
		{"page", 502, "<html><body>Bad Gateway</body></html>", nil, false, ": 502 Bad Gateway"},
		{"text", 429, "slow\ndown \x1b[31m", nil, false, ": 429 Too Many Requests: slow down [31m"},
		{"nothing", 500, "", nil, false, ": 500 Internal Server Error"},
		{"null", 500, "null", nil, false, ": 500 Internal Server Error"},
		{"other types", 500, `{"message":[1],"error":7}`, nil, false, ": 500 Internal Server Error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := serve(t, reply(tt.status, tt.body)).Repository(t.Context(), "o/r")
			if !strings.HasSuffix(fmt.Sprint(err), tt.want) {
				t.Errorf("got %q, want %q at its end", err, tt.want)
			}
			if quay.NotVisible(err) != tt.notVisible {
				t.Errorf("NotVisible is %v", !tt.notVisible)
			}
			for _, kind := range []error{oci.ErrDenied, oci.ErrNotFound} {
				if errors.Is(err, kind) != (kind == tt.kind) {
					t.Errorf("%v matches %v: %v", err, kind, kind != tt.kind)
				}
			}
		})
	}
}

func TestLongErrorIsCut(t *testing.T) {
	_, err := serve(t, reply(500, strings.Repeat("é", 1<<20))).Repository(t.Context(), "o/r")
	if n := len(fmt.Sprint(err)); n > 500 {
		t.Errorf("an error text of %d bytes", n)
	}
}

// A 308 of Quay adds a slash; the token goes with it.
func TestRedirectKeepsToken(t *testing.T) {
	var paths []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		if len(paths) == 1 {
			http.Redirect(w, r, "/api/v1/moved?"+r.URL.RawQuery, http.StatusPermanentRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"namespace":"o","name":"r"}`)
	})
	if _, err := c.Repository(t.Context(), "o/r"); err != nil {
		t.Fatal(err)
	}
	if want := "[/api/v1/repository/o/r?includeTags=false Bearer good /api/v1/moved?includeTags=false Bearer good]"; fmt.Sprint(paths) != want {
		t.Errorf("got %v, want %v", paths, want)
	}
}

// A Quay behind a proxy that ends TLS may name http in its redirects. The token
// is not for that.
func TestRedirectKeepsTLS(t *testing.T) {
	n := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			http.Redirect(w, r, "http://"+r.Host+"/api/v1/moved", http.StatusPermanentRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"namespace":"o","name":"r"}`)
	}))
	t.Cleanup(s.Close)
	c := &quay.Client{Host: strings.TrimPrefix(s.URL, "https://"), Token: "good", HTTP: s.Client()}
	if _, err := c.Repository(t.Context(), "o/r"); err != nil || n != 2 {
		t.Errorf("%d requests, %v", n, err)
	}
}

func TestRedirectElsewhereIsRefused(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(other.Close)
	for _, to := range []string{other.URL + "/x", "http://elsewhere.example/x", "", "http://[::1/x"} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusPermanentRedirect)
		})
		if _, err := c.Repository(t.Context(), "o/r"); err == nil {
			t.Errorf("%q was followed", to)
		}
	}
	if asked {
		t.Error("the other host was asked")
	}
}

func TestRedirectLoop(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, r.URL.String(), http.StatusPermanentRedirect)
	})
	if _, err := c.Repository(t.Context(), "o/r"); err == nil || n > 5 {
		t.Errorf("%d requests, %v", n, err)
	}
}

// What isn't a name never gets into a path.
func TestNamesAreChecked(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("requested %s", r.URL) })
	for _, repo := range []string{"", "o", "o/../x", "o/a?b", "o/a#b", "o/%2e", "O/a", "o//a", "o/a/", "/o/a", "o/a\n"} {
		_, err1 := c.Repository(t.Context(), repo)
		_, err2 := c.Tag(t.Context(), repo, "v1")
		_, err3 := c.Labels(t.Context(), repo, digest1)
		err4 := c.ChangeVisibility(t.Context(), repo, quay.Public)
		for _, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%q: %v", repo, err)
			}
		}
	}
	if _, err := c.Tag(t.Context(), "o/r", "a/b"); !errors.Is(err, oci.ErrUsage) {
		t.Error(err)
	}
	if _, err := c.Labels(t.Context(), "o/r", "sha256:../.."); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

func TestAnswerThatIsNotQuays(t *testing.T) {
	for _, body := range []string{"", "<html>hello", "null", "[]", `{"repositories":{}}`, `{"repositories":null}`, `{"tags":null}`, strings.Repeat("[", 20000)} {
		c := serve(t, reply(200, body))
		for _, err := range c.Repositories(t.Context(), "o", quay.RepositoryOptions{}) {
			if !errors.Is(err, quay.ErrNotQuay) || errors.Is(err, oci.ErrIncomplete) {
				t.Errorf("repositories %.20q: %v", body, err)
			}
		}
		if _, err := c.Tag(t.Context(), "o/r", "v1"); !errors.Is(err, quay.ErrNotQuay) {
			t.Errorf("tag %.20q: %v", body, err)
		}
	}
}

func TestHugeAnswer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"repositories":[{"description":"`)
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})
	if _, err := c.Repository(t.Context(), "o/r"); !errors.Is(err, oci.ErrTooLarge) {
		t.Error(err)
	}
}

func TestTokenStaysSecret(t *testing.T) {
	c := serve(t, reply(500, "x"))
	c.Token = "hunter2\n"
	if _, err := c.Repository(t.Context(), "o/r"); strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Error(err)
	}
	c.Token = "hun\x00ter2"
	if _, err := c.Repository(t.Context(), "o/r"); err == nil || strings.Contains(err.Error(), "ter2") {
		t.Error(err)
	}
}

// Not even where the server says back what it was told.
func TestTokenStaysSecretInAnswers(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":"no such token: %s"}`, r.Header.Get("Authorization"))
	})
	c.Token = "hunter2-hunter2"
	if _, err := c.Repository(t.Context(), "o/r"); strings.Contains(fmt.Sprint(err), c.Token) || !strings.Contains(fmt.Sprint(err), "no such token") {
		t.Error(err)
	}
}

// A client whose RoundTripper follows redirects by itself arrives at another
// host without the token, as a stranger: no listing of that one is taken.
func TestAnswerFromElsewhereIsRefused(t *testing.T) {
	other := serve(t, reply(200, `{"repositories":[]}`))
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+other.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
	})
	c.HTTP = &http.Client{Transport: following{}}
	for _, err := range c.Repositories(t.Context(), "o", quay.RepositoryOptions{}) {
		if err == nil || !strings.Contains(err.Error(), other.Host) {
			t.Errorf("got %v", err)
		}
		return
	}
	t.Error("the stranger's listing was taken")
}

// following follows redirects within one round trip.
type following struct{}

func (following) RoundTrip(r *http.Request) (*http.Response, error) {
	next, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), nil)
	if err != nil {
		return nil, err
	}
	return (&http.Client{}).Do(next)
}

func TestCancelled(t *testing.T) {
	c := serve(t, reply(200, "{}"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Repository(ctx, "o/r"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestVerifyToken(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/api/v1/repository?starred=true" {
			t.Errorf("asked %s", r.URL)
		}
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			_, _ = io.WriteString(w, `{"repositories":[]}`)
		case "Bearer jwt":
			w.WriteHeader(401)
			_, _ = io.WriteString(w, `{"error":"x"}`)
		case "Bearer down":
			w.WriteHeader(503)
		default:
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"message":"The browser (or proxy) sent a request that this server could not understand."}`)
		}
	})
	if err := c.VerifyToken(t.Context()); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"", "robot", "jwt"} {
		c.Token = token
		if err := c.VerifyToken(t.Context()); !errors.Is(err, oci.ErrDenied) || !strings.Contains(err.Error(), "OAuth application") {
			t.Errorf("%q: %v", token, err)
		}
	}
	c.Token = "down"
	if err := c.VerifyToken(t.Context()); err == nil || errors.Is(err, oci.ErrDenied) {
		t.Errorf("503 says nothing of the token: %v", err)
	}
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
