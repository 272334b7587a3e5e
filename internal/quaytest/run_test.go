package quaytest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestTLS: HTTP/2, https in every URL that is handed out, and a certificate
// that a client can be told to trust.
func TestTLS(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	check(t, s.Push(t.Context(), "org/app", "v1", image1))
	run := s.StartTLS()
	defer run.Close()
	pool := x509.NewCertPool()
	want(t, "certificate is taken", pool.AppendCertsFromPEM(run.CertPEM()), true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	resp, err := client.Get(run.URL + "/v2/")
	check(t, err)
	check(t, resp.Body.Close())
	want(t, "protocol", resp.Proto, "HTTP/2.0")
	if c := resp.Header.Get("WWW-Authenticate"); !strings.HasPrefix(c, `Bearer realm="https://`) {
		t.Errorf("WWW-Authenticate: got %s", c)
	}
	resp, err = client.Get(run.URL + "/v2/org/app/blobs/" + string(base.Desc.Digest))
	check(t, err)
	got, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	want(t, "blob", string(got), string(base.Bytes))
	want(t, "host", resp.Request.URL.Scheme+"://"+resp.Request.URL.Host, "https://"+run.StorageHost)
}

// TestHTTP2Limits: the limits are those of HTTP/2, for each connection.
func TestHTTP2Limits(t *testing.T) {
	c := &clock{t: time.Now()}
	s := quaytest.New(quaytest.Options{RateLimits: true, Now: c.now})
	run := s.StartTLS()
	defer run.Close()
	client := run.Client()
	ok := 0
	for range 110 {
		resp, err := client.Get(run.URL + "/api/v1/repository?public=true")
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			ok++
		}
	}
	want(t, "calls that were answered", ok, 101)
	want(t, "calls that were refused", s.Counts()["limited"], 9)
}

// TestHandler: without Start there is no other host, so blobs come from the
// same one.
func TestHandler(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	check(t, s.Push(t.Context(), "org/app", "v1", image1))
	h := httptest.NewServer(s)
	defer h.Close()
	resp, err := http.Get(h.URL + "/v2/org/app/blobs/" + string(base.Desc.Digest))
	check(t, err)
	got, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	want(t, "blob", string(got), string(base.Bytes))
	want(t, "host", "http://"+resp.Request.URL.Host, h.URL)
}
