package quaytest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
)

// A Server is one Quay. It is an http.Handler and safe for concurrent use;
// [Server.Start] gives it addresses.
type Server struct {
	opt       Options
	store     ociregistry.Interface
	registry  http.Handler // ociserver over store
	meter     *meter
	limiter   *limiter
	manifests sync.Map // manifestKey -> *manifest
	uploads   sync.Map // name -> *upload
	origins   sync.Map // digest -> store name of a repository that Push put it into
	key       []byte   // signs blob URLs, seals page tokens

	mu       sync.Mutex // guards the rest
	state    state
	byID     []*repository // of state, ascending
	catalogs map[string]catalog
	storage  string // URL of the storage host, "" for none
}

// New makes a Quay without users.
func New(o Options) *Server {
	o = o.withDefaults()
	s := &Server{opt: o, meter: newMeter(), limiter: newLimiter(o.Now), state: newState(), catalogs: map[string]catalog{}, key: make([]byte, 32)}
	_, _ = rand.Read(s.key) // it never fails
	s.store = o.Store
	if s.store == nil {
		s.store = ocimem.NewWithConfig(&ocimem.Config{LaxChildReferences: true}) // the middleware checks them
	}
	s.store = appending{s.store}
	s.registry = ociserver.New(s.store, &ociserver.Options{WriteError: writeStoreError})
	return s
}

// ServeHTTP counts the request, lets it fail if it shall, holds it to the
// limits, and answers it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w, ok := s.begin(w, r)
	if !ok {
		return
	}
	if s.opt.RateLimits && !s.limiter.allow(w, r) {
		s.meter.event("limited")
		writeHTML(w, http.StatusTooManyRequests)
		return
	}
	path := r.URL.Path
	switch {
	case strings.HasPrefix(path, proxyPrefix):
		s.serveBlobURL(w, r, proxyPrefix)
	case strings.HasPrefix(path, "/api/v1/"):
		s.serveAPI(w, r, strings.TrimPrefix(path, "/api/v1/"))
	case path == "/v2" || strings.HasPrefix(path, "/v2/"):
		s.serveV2(w, r)
	default:
		writeHTML(w, http.StatusNotFound)
	}
}

// begin counts r and acts out its fault; false if that was the answer.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool) {
	s.meter.arrived(r)
	if s.opt.Fault == nil {
		return w, true
	}
	f := s.opt.Fault(r)
	if f != (Fault{}) {
		s.meter.event("fault")
	}
	w, done := f.failed(w, r)
	return w, !done
}

// serveStorage is the other host, which keeps the blobs.
func (s *Server) serveStorage(w http.ResponseWriter, r *http.Request) {
	w, ok := s.begin(w, r)
	if !ok {
		return
	}
	if r.Header.Get("Authorization") != "" {
		writeXML(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
		return
	}
	s.serveBlobURL(w, r, storagePrefix)
}

// baseURL is how the client reached us.
func baseURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// truthy reads a boolean parameter as Quay does.
func truthy(q url.Values, name string, absent bool) bool {
	if !q.Has(name) {
		return absent
	}
	switch q.Get(name) {
	case "false", "False", "FALSE", "0", "null", "":
		return false
	}
	return true
}

var durationRE = regexp.MustCompile(`^(\d+)([smhdwy])$`)

// parseDuration reads the value of a quay.expires-after label.
func parseDuration(v string) (time.Duration, bool) {
	m := durationRE.FindStringSubmatch(v)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > 1000 {
		return 0, false
	}
	day := 24 * time.Hour
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day, "y": 365 * day}
	return time.Duration(n) * unit[m[2]], true
}
