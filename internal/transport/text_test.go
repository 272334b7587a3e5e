package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestText(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain, ümläut", "plain, ümläut"},
		{"a\nb\tc\x1b[31mred\x00", `a\nb\tc\x1b[31mred\x00`},
		{"turn\u202earound", `turn\u202earound`},
		{"bad\xffutf8", `bad\xffutf8`},
		{strings.Repeat("x", 100), strings.Repeat("x", 20) + "..."},
	}
	for _, tt := range tests {
		want := tt.want
		n := 60
		if len(tt.in) == 100 {
			n = 20
		}
		if got := Text(tt.in, n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestResponseError(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string // after "host answered "
		kind   error
	}{
		{"distribution", 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}`, "404 MANIFEST_UNKNOWN: manifest unknown: Tag: x", oci.ErrNotFound},
		{"distribution, detail message", 400, `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":{"message":"Unknown blob"}}]}`, "400 MANIFEST_INVALID: manifest invalid: Unknown blob", nil},
		{"two errors", 403, `{"errors":[{"code":"DENIED","message":"no"},{"code":"X","message":"never"}]}`, "403 DENIED: no; never", oci.ErrDenied},
		{"Quay ApiException", 401, `{"detail":"Requires authentication","error_message":"Requires authentication","error_type":"invalid_token","title":"invalid_token","type":"https://quay.io/api/v1/error/invalid_token","status":401}`, "401 invalid_token: Requires authentication", oci.ErrDenied},
		{"Quay parameter", 400, `{"message":{"limit":"Limit to the number of results to return per page. Max 100."}}`, "400 Bad Request: limit: Limit to the number of results to return per page. Max 100.", nil},
		{"Quay read-only", 503, `{"message":"Repository is in read only or mirror mode: 1"}`, "503 Service Unavailable: Repository is in read only or mirror mode: 1", nil},
		{"Quay abort", 403, `{"error":"CSRF token was invalid or missing."}`, "403 Forbidden: CSRF token was invalid or missing.", oci.ErrDenied},
		{"OAuth 2", 400, `{"error":"invalid_grant","error_description":"token expired"}`, "400 Bad Request: token expired", nil},
		{"nginx", 429, "<html>\r\n<head><title>429 Too Many Requests</title></head><body>...</body></html>", "429 Too Many Requests", nil},
		{"HTML without a title", 502, "<body><style>b{}</style><h1>Bad\n gateway</h1></body>", "502 Bad Gateway: Bad gateway", nil},
		{"empty", 404, "", "404 Not Found", oci.ErrNotFound},
		{"control bytes", 404, `{"message":"a\u001b[2Jb\nc"}`, `404 Not Found: a\x1b[2Jb c`, oci.ErrNotFound},
		{"null", 500, "null", "500 Internal Server Error: null", nil},
		{"endless", 500, strings.Repeat("words and ", 100_000), "500 Internal Server Error: " + strings.Repeat("words and ", 16) + "...", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			resp, err := newTest(t, Options{Retries: -1}).Client().Get(s.URL + "/v2/a/manifests/x?sig=hush")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			err = ResponseError(resp)
			if got, want := err.Error(), hostOf(t, s.URL)+" answered "+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			for _, kind := range []error{oci.ErrNotFound, oci.ErrDenied} {
				if errors.Is(err, kind) != (kind == tt.kind) {
					t.Errorf("matches %v: %v", kind, errors.Is(err, kind))
				}
			}
		})
	}
}

// Servers that say back what they were told, in every place where an error
// may take it from.
func TestNoSecretInErrors(t *testing.T) {
	const password, apiToken, signature = "s3cr3t-pässword/+", "api-t0ken-value", "s1gnature"
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, p, _ := r.BasicAuth()
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"you sent %s, that is %s, for %s"}]}`, r.Header.Get("Authorization"), p, r.URL.RawQuery)
	}
	basic := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		echo(w, r)
	})
	service := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/token" {
			echo(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(401)
	})
	bearer := newFakeRegistry(t)
	bearer.handle = echo
	closed := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	closed.Close()
	moved := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		http.Redirect(w, r, closed.URL+"/x?X-Amz-Signature="+signature, 302)
	})
	odd := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		http.Redirect(w, r, "http://a b%zz/?X-Amz-Signature="+signature, 302)
	})

	var logged strings.Builder
	for name, u := range map[string]string{"basic": basic.URL, "service": service.URL, "bearer": bearer.URL, "moved": moved.URL, "odd": odd.URL} {
		t.Run(name, func(t *testing.T) {
			user, pw := "bot", password
			if name == "bearer" {
				pw = "secret"
			}
			tr := newTest(t, Options{Credentials: Fixed(hostOf(t, u), user, pw), Log: logTo(&logged), Side: "source"})
			check := func(err error) {
				t.Helper()
				if err == nil {
					t.Fatal("got no error")
				}
				var tokens []string
				for value := range bearer.tokens {
					tokens = append(tokens, value)
				}
				for _, secret := range append(tokens, pw, apiToken, signature, Credential{Username: user, Password: pw}.basic()[6:]) {
					if strings.Contains(err.Error(), secret) || strings.Contains(logged.String(), secret) {
						t.Errorf("%q shows %q (log: %s)", err, secret, logged.String())
					}
				}
			}
			for _, authorization := range []string{"", "Bearer " + apiToken} {
				req, err := http.NewRequestWithContext(context.Background(), "GET", u+"/v2/a/blobs/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				if authorization != "" {
					req.Header.Set("Authorization", authorization)
				}
				resp, err := tr.Client().Do(req)
				if err == nil {
					err = ResponseError(resp)
					resp.Body.Close()
				}
				check(err)
				check(Clean(err))
			}
		})
	}
	c := Credential{Username: "u", Password: password, IdentityToken: apiToken}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, &c, c); strings.Contains(s, password) || strings.Contains(s, apiToken) {
		t.Errorf("a printed credential shows it: %s", s)
	}
}

func TestClean(t *testing.T) {
	_, err := newTest(t, Options{Retries: -1}).Client().Get("http://127.0.0.1:1/v2/a/blobs/uploads/1?_state=hush")
	clean := Clean(err)
	if want := "dial tcp 127.0.0.1:1: connect: connection refused"; clean.Error() != want {
		t.Errorf("got %q, want %q", clean, want)
	}
	if !Retryable(nil, clean) {
		t.Errorf("%v is not worth another attempt any more", clean)
	}
	if err := Clean(io.EOF); !errors.Is(err, io.EOF) || Clean(nil) != nil {
		t.Errorf("got %v", err)
	}
}

// What a user can do about a connection that fails is said with it.
func TestErrorsSayWhatToDo(t *testing.T) {
	plain := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { panic(http.ErrAbortHandler) })
	for _, tt := range []struct{ url, want string }{
		{strings.Replace(plain.URL, "http:", "https:", 1), "--plain-http"},
		{secure.URL, "--ca-file"},
		{cut.URL, "closed the connection"},
	} {
		_, err := newTest(t, Options{Side: "source", Retries: -1}).Client().Get(tt.url + "/v2/a/manifests/x?sig=hush")
		if clean := fmt.Sprint(Clean(err)); !strings.Contains(clean, tt.want) || strings.Contains(clean, "hush") {
			t.Errorf("got %q, want %q in it", clean, tt.want)
		}
	}
}
