package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// pool gives the connections to h under g. Guarded ones are kept apart, or one
// that was made without a guard would be used again.
func (t *Transport) pool(h *host, g guard) (*http.Transport, error) {
	if h.proxied {
		g = open // what is dialled is the proxy; the name was looked at
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pools[g]; p != nil {
		return p, nil
	}
	certs := ""
	if h.url.Scheme == "https" {
		certs = t.certDir(h.url)
	}
	config, err := t.tlsConfig(certs)
	if err != nil {
		return nil, err
	}
	p := &http.Transport{
		DialContext:            t.dialer(h, g),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // gzip would hide lengths and ranges
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        128 << 10, // measured: a tenth less CPU than net/http's 4 KiB
		ReadBufferSize:         128 << 10,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second},
	}
	if h.proxied {
		p.Proxy = proxy
	}
	h.pools[g] = p
	return p, nil
}

// certDir gives the folder with the certificates for u's host, "" if none.
func (t *Transport) certDir(u *url.URL) string {
	roots := []string{t.opt.CertDir}
	if t.opt.CertDir == "" {
		roots = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
		if t.opt.Home != "" {
			roots = append([]string{filepath.Join(t.opt.Home, ".config/containers/certs.d")}, roots...)
		}
	}
	names := []string{u.Host}
	if host, port, err := net.SplitHostPort(u.Host); err == nil && port == "443" {
		names = append(names, host)
	}
	if u.Host == "registry-1.docker.io" {
		names = append(names, "docker.io")
	}
	for _, root := range roots {
		for _, name := range names {
			// A host comes from the network, too: one path element, or nothing.
			if name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
				continue
			}
			dir := filepath.Join(root, name)
			if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
				return dir
			}
		}
	}
	return ""
}

func (t *Transport) tlsConfig(dir string) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            t.roots,
		InsecureSkipVerify: t.opt.SkipVerify, //nolint:gosec // the user asked for it: --tls-verify=false
	}
	if dir == "" {
		return config, nil
	}
	authorities, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.crt"))
	if err != nil {
		return nil, err
	}
	if len(authorities) > 0 {
		if config.RootCAs, err = caPool(append(append([]string{}, t.opt.CAFiles...), authorities...)); err != nil {
			return nil, err
		}
	}
	certs, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.cert"))
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		key := strings.TrimSuffix(cert, ".cert") + ".key"
		pair, err := tls.LoadX509KeyPair(cert, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, oci.Usage(fmt.Sprintf("certificate %s has no key %s beside it", cert, filepath.Base(key)))
		}
		if err != nil {
			return nil, oci.Usage(fmt.Sprintf("certificate %s: %v", cert, err))
		}
		config.Certificates = append(config.Certificates, pair)
	}
	return config, nil
}

// escapeGlob lets a folder's name stand for itself: "[::1]:5000".
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// caPool gives the system's certificate authorities and those of files.
func caPool(files []string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, oci.Usage(fmt.Sprintf("certificate authority: %v", err))
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, oci.Usage(fmt.Sprintf("certificate authority %s holds no PEM certificate", file))
		}
	}
	return pool, nil
}
