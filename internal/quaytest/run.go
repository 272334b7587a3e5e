package quaytest

import (
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
)

// A Run is a server with addresses: one for Quay, another for its blobs.
type Run struct {
	URL         string // "http://127.0.0.1:PORT"
	Host        string // "127.0.0.1:PORT"
	StorageHost string // "127.0.0.1:OTHERPORT"

	server        *Server
	main, storage *httptest.Server
}

// Start serves s on two free ports of 127.0.0.1, by HTTP/1.1 without TLS.
func (s *Server) Start() *Run { return s.start((*httptest.Server).Start) }

// StartTLS is Start with TLS and HTTP/2. The certificate is for 127.0.0.1 and
// example.com; see [Run.CertPEM].
func (s *Server) StartTLS() *Run { return s.start((*httptest.Server).StartTLS) }

func (s *Server) start(begin func(*httptest.Server)) *Run {
	serve := func(h http.HandlerFunc) *httptest.Server {
		t := httptest.NewUnstartedServer(h)
		t.EnableHTTP2 = true
		t.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		begin(t)
		return t
	}
	r := &Run{server: s, main: serve(s.ServeHTTP), storage: serve(s.serveStorage)}
	r.URL = r.main.URL
	_, r.Host, _ = strings.Cut(r.main.URL, "://")
	_, r.StorageHost, _ = strings.Cut(r.storage.URL, "://")
	s.mu.Lock()
	s.storage = r.storage.URL
	s.mu.Unlock()
	return r
}

// Close stops serving and waits until every answer is finished.
func (r *Run) Close() {
	r.server.mu.Lock()
	r.server.storage = ""
	r.server.mu.Unlock()
	r.main.Close()
	r.storage.Close()
}

// Client gives a client that trusts the server's certificate.
func (r *Run) Client() *http.Client { return r.main.Client() }

// Certificate gives the server's certificate, nil without TLS.
func (r *Run) Certificate() *x509.Certificate { return r.main.Certificate() }

// CertPEM gives the server's certificate as a CA file, nil without TLS.
func (r *Run) CertPEM() []byte {
	c := r.Certificate()
	if c == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
