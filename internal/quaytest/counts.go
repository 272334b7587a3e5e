package quaytest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// An Authorization is one value of that header, with the host and path that it
// was sent to.
type Authorization struct {
	Host  string // of the request: host:port
	Path  string
	Value string
}

// A Blob is one blob of one repository.
type Blob struct {
	Repository string // "ns/repo"
	Digest     oci.Digest
}

// Transfers count the blob transfers that were completed. Gets are those whose
// body was written up to the end of the blob, which a range may do; Puts are
// uploads that were stored, Mounts the blobs that came from another repository.
type Transfers struct {
	Gets, Puts, Mounts map[Blob]int
}

func newTransfers() Transfers {
	return Transfers{Gets: map[Blob]int{}, Puts: map[Blob]int{}, Mounts: map[Blob]int{}}
}

// meter counts.
type meter struct {
	mu             sync.Mutex
	kinds          map[string]int
	transfers      Transfers
	authorizations []Authorization
	known          map[Authorization]bool
}

func newMeter() *meter {
	m := &meter{}
	m.reset()
	return m
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds, m.transfers = map[string]int{}, newTransfers()
	m.authorizations, m.known = nil, map[Authorization]bool{}
}

// arrived counts a request.
func (m *meter) arrived(r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds[Kind(r)]++
	for _, v := range r.Header.Values("Authorization") {
		a := Authorization{r.Host, r.URL.Path, v}
		if !m.known[a] {
			m.known[a] = true
			m.authorizations = append(m.authorizations, a)
		}
	}
}

func (m *meter) event(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds[kind]++
}

func (m *meter) transferred(which func(Transfers) map[Blob]int, repo string, d oci.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	which(m.transfers)[Blob{repo, d}]++
}

// Counts gives how many requests of each [Kind] have come since the start or
// the last [Server.Reset], those that a fault or a limit stopped included; and
// under "fault" and "limited" how many these were.
func (s *Server) Counts() map[string]int {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return maps.Clone(s.meter.kinds)
}

// Transfers gives the completed blob transfers.
func (s *Server) Transfers() Transfers {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	t := s.meter.transfers
	return Transfers{maps.Clone(t.Gets), maps.Clone(t.Puts), maps.Clone(t.Mounts)}
}

// Authorizations gives every Authorization header that came, once for each
// host, path and value, in the order in which they came first.
func (s *Server) Authorizations() []Authorization {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return slices.Clone(s.meter.authorizations)
}

// Reset sets the counts, transfers and authorizations to nothing.
func (s *Server) Reset() { s.meter.reset() }

// Kind says what a request is, for [Server.Counts] and for fault functions:
//
//	api.repositories api.probe (?starred=true) api.repository api.tags api.manifest api.labels
//	api.tag.change api.tag.delete api.tag.restore api.create api.delete api.visibility api.other
//	v2.ping v2.auth v2.catalog v2.tags v2.referrers v2.manifest.{head,get,put,delete}
//	v2.blob.{head,get,delete} v2.upload.{start,get,patch,put,delete} v2.mount v2.other
//	storage.get storage.other other
//
// v2.upload.start is also a POST that holds the whole blob.
func Kind(r *http.Request) string {
	path := r.URL.Path
	switch {
	case strings.HasPrefix(path, storagePrefix), strings.HasPrefix(path, proxyPrefix):
		if r.Method == http.MethodGet {
			return "storage.get"
		}
		return "storage.other"
	case strings.HasPrefix(path, "/api/v1/"):
		return apiKind(r, strings.TrimPrefix(path, "/api/v1/"))
	case path == "/v2" || path == "/v2/":
		return "v2.ping"
	case path == "/v2/auth":
		return "v2.auth"
	case path == "/v2/_catalog":
		return "v2.catalog"
	case strings.HasPrefix(path, "/v2/"):
		return v2Kind(r)
	}
	return "other"
}

func apiKind(r *http.Request, path string) string {
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	route, _ := findAPIRoute(path, r.Method)
	switch {
	case route == nil:
		return "api.other"
	case route.kind == "repositories" && !get:
		return "api.create"
	case route.kind == "repositories" && truthy(r.URL.Query(), "starred", false):
		return "api.probe"
	case route.kind == "repository" && r.Method == http.MethodDelete:
		return "api.delete"
	case route.kind == "tag" && r.Method == http.MethodDelete:
		return "api.tag.delete"
	case route.kind == "tag":
		return "api.tag.change"
	}
	return "api." + route.kind
}

func v2Kind(r *http.Request) string {
	method := strings.ToLower(r.Method)
	p := parseV2(r.URL.Path)
	switch p.what {
	case "manifest", "blob", "upload":
		return "v2." + p.what + "." + method
	case "uploads":
		if r.URL.Query().Get("mount") != "" {
			return "v2.mount"
		}
		return "v2.upload.start"
	case "":
		return "v2.other"
	}
	return "v2." + p.what
}
