package transport

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzParseChallenges(f *testing.F) {
	for _, s := range []string{
		`Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:a/b:pull,push repository:c:pull"`,
		`Basic realm="x", Bearer realm=y,service="z"`, `Negotiate abc==`, `Bearer realm="\"`, `, ,Digest a=b`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges(s) {
			if c.scheme == "" || strings.ContainsAny(c.realm+c.service, "\r\n\x00") && !strings.Contains(s, `\`) {
				t.Errorf("got %+v", c)
			}
			registry := &url.URL{Scheme: "https", Host: "registry.example.com"}
			r, err := judgeRealm(registry, c.realm, nil)
			if err != nil {
				continue
			}
			if r.url.Scheme != "https" {
				t.Errorf("%q may be asked", c.realm)
			}
			if host := strings.ToLower(r.url.Hostname()); r.trusted && host != "example.com" && !strings.HasSuffix(strings.TrimSuffix(host, "."), "example.com") {
				t.Errorf("%q is trusted", c.realm)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"1", "-1", "99999999999999999999", "1.5", now.Format(http.TimeFormat), "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"} {
		f.Add(s, "")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		d, capped := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, now)
		if d < 0 || d > maxRetryAfter || capped && d != maxRetryAfter {
			t.Errorf("got %v %v", d, capped)
		}
	})
}

func FuzzAuthFile(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"quay.io":{"auth":"Ym90OnNlY3JldA=="}}}`, `{"auths":{"quay.io/a":{"identitytoken":"x"}},"credHelpers":{"quay.io":"x"},"credsStore":"y"}`,
		`{"auths":null}`, `[]`, ``, `{"auths":{"https://index.docker.io/v1/":{"auth":"Og"}}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		file, err := parseAuthFile("auth.json", []byte(s))
		if err != nil {
			return
		}
		for _, key := range lookupKeys("quay.io", "a/b") {
			c, err := file.entry(key)
			if err != nil && !c.IsZero() {
				t.Errorf("%s: got %v and %v", key, c, err)
			}
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("plain\x1b[0m\xff\u202e", 10)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = max(0, n%1000)
		got := Text(s, n)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(got) > n+16 {
			t.Errorf("%q", got)
		}
	})
}

func FuzzReadError(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"X","message":"y","detail":{"a":"b"}}]}`))
	f.Add([]byte(`{"message":{"limit":"x"}}`))
	f.Add([]byte(`<html><title>x</title>`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		readError(raw)
		words(string(raw))
		readJWT(string(raw))
	})
}
