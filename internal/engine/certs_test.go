package engine_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// write puts a PEM file into dir.
func write(t *testing.T, dir, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if string(r.TLS.PeerCertificates[0].Raw) != string(der) {
			t.Error("the client shows another certificate")
		}
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	host := "tcp://" + srv.Listener.Addr().String()

	dir := t.TempDir()
	if _, err := engine.New(host, dir); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), filepath.Join(dir, "ca.pem")) {
		t.Errorf("without files: %v, want that ca.pem is missing", err)
	}
	write(t, dir, "ca.pem", "CERTIFICATE", srv.Certificate().Raw)
	if _, err := engine.New(host, dir); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("without a key: %v, want that cert.pem is missing", err)
	}
	write(t, dir, "cert.pem", "CERTIFICATE", der)
	write(t, dir, "key.pem", "EC PRIVATE KEY", raw)
	send := func() error {
		c, err := engine.New(host, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Send(t.Context(), engine.Call{Path: "/_ping"})
	}
	if err := send(); err != nil {
		t.Error(err)
	}
	write(t, dir, "ca.pem", "CERTIFICATE", der) // trusts somebody else
	if err := send(); err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("got %v, want that the daemon isn't trusted", err)
	}
}

func TestStuckDaemon(t *testing.T) {
	defer engine.SetAnswerTime(20 * time.Millisecond)()
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if err := c.JSON(t.Context(), "/images/a/json", nil, nil); err == nil || !strings.Contains(err.Error(), "/images/a/json within 20ms") || !strings.Contains(err.Error(), c.String()) {
		t.Errorf("got %v, want that it is stuck", err)
	}
}
