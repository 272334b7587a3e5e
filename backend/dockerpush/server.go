package dockerpush

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"golang.org/x/net/netutil"

	"github.com/quaymaster/quaymaster/oci"
)

// maxConnections bounds those of the daemon (Docker uploads 5 blobs at once) and of
// whoever else finds the port.
const maxConnections = 64

// A server is the registry of one push.
type server struct {
	store      *store
	repository string // random: nobody else knows it
	password   string

	listener net.Listener
	http     *http.Server
	registry http.Handler
	seen     atomic.Bool // somebody with the password asked something
	serving  sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	calls   sync.WaitGroup
}

// listen starts the registry on a free port of 127.0.0.1.
func listen(ctx context.Context, st *store) (*server, error) {
	cert, err := certificate()
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{
		store: st, repository: repositories + secret(), password: secret(), listener: l,
		registry: ociserver.New(registry{store: st}, nil),
	}
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what strangers do wrong
	}
	s.serving.Go(func() {
		_ = s.http.ServeTLS(netutil.LimitListener(l, maxConnections), "", "") // it ends with stop
	})
	return s, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

// reached reports whether the daemon has been here.
func (s *server) reached() bool { return s.seen.Load() }

// stop ends all connections and waits until nobody serves them any more.
func (s *server) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	_ = s.http.Close() // nothing is left to be done about it
	s.serving.Wait()
	s.calls.Wait()
}

// enter counts a call; false says that there are to be no more.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.calls.Add(1)
	return true
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "the push is over", http.StatusServiceUnavailable)
		return
	}
	defer s.calls.Done()
	_, password, ok := r.BasicAuth()
	if !ok || subtle.ConstantTimeCompare([]byte(password), []byte(s.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="quaymaster"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	s.seen.Store(true)
	rest, mine := strings.CutPrefix(r.URL.Path, "/v2/"+s.repository+"/")
	if r.URL.Path != "/v2/" && !mine {
		http.NotFound(w, r)
		return
	}
	if strings.HasPrefix(rest, "manifests/") { // which the registry reads into memory
		r.Body = http.MaxBytesReader(w, r.Body, oci.MaxManifestSize)
	}
	if rest == "blobs/uploads/" {
		// There is no other repository to mount a blob from: upload it.
		q := r.URL.Query()
		q.Del("mount")
		q.Del("from")
		r.URL.RawQuery = q.Encode()
	}
	s.registry.ServeHTTP(w, r)
}
