package suite_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A damage is what becomes of content.
type damage int

const (
	none    damage = iota
	cut            // half of it is there
	changed        // a byte in its middle is another
	missing        // it isn't there
)

func (d damage) String() string { return [...]string{"none", "cut", "changed", "missing"}[d] }

// A faulty server does damage to the answers to the requests that match.
type faulty struct {
	next  http.Handler
	match func(*http.Request) bool

	mu  sync.Mutex
	now damage
	at  int
}

// hurt does damage behind the first at bytes of an answer, until heal.
func (f *faulty) hurt(how damage, at int) (heal func()) {
	set := func(how damage) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now, f.at = how, at
	}
	set(how)
	return func() { set(none) }
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	how, at := f.now, f.at
	f.mu.Unlock()
	switch {
	case !f.match(r), how == none:
		f.next.ServeHTTP(w, r)
	case how == missing:
		http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
	default:
		hw := &hurtWriter{ResponseWriter: w, how: how, whole: at}
		f.next.ServeHTTP(hw, r)
		if how == cut && hw.n > at {
			panic(http.ErrAbortHandler)
		}
	}
}

// A hurtWriter hurts what is behind the first bytes.
type hurtWriter struct {
	http.ResponseWriter
	how   damage
	whole int
	n     int
}

func (w *hurtWriter) Write(p []byte) (int, error) {
	at := w.whole - w.n
	w.n += len(p)
	if at < 0 || at >= len(p) {
		if at < 0 && w.how == cut {
			return len(p), nil
		}
		return w.ResponseWriter.Write(p)
	}
	if w.how == cut {
		_, err := w.ResponseWriter.Write(p[:at])
		return len(p), err
	}
	q := append([]byte(nil), p...)
	q[at] ^= 1
	return w.ResponseWriter.Write(q)
}

// proxied stands in front of the daemon at socket.
func proxied(t *testing.T, socket string) (string, *faulty) {
	t.Helper()
	dir, err := os.MkdirTemp("", "proxy-") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	f := &faulty{
		match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/get") },
		next: &httputil.ReverseProxy{Transport: transport, FlushInterval: -1,
			Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "daemon" },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		},
	}
	at := filepath.Join(dir, "s")
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		transport.CloseIdleConnections()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return at, f
}
