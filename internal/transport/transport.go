package transport

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// Options are what a [Transport] is made with. The zero value is ready:
// anonymous, with Quay's limits.
type Options struct {
	// Side is what logs call it: "source", "destination".
	Side string
	// Credentials are asked for each request under /v2/. nil: anonymous.
	Credentials CredentialFunc
	// SkipVerify takes any certificate.
	SkipVerify bool
	// CAFiles are PEM files of certificate authorities beside the system's.
	CAFiles []string
	// CertDir is a folder in the layout of docker's certs.d: HOST[:PORT] with
	// *.crt (authorities), *.cert and *.key (ours). "" means
	// ~/.config/containers/certs.d, /etc/containers/certs.d and
	// /etc/docker/certs.d; the first that has the host counts.
	CertDir string
	// Home is where ~ is. "" leaves it out.
	Home string
	// AuthRealms are further hosts (HOST or HOST:PORT) that may be asked for
	// tokens with credentials, whichever registry names them.
	AuthRealms []string
	// Retries is how often a request is sent again. 0 means 3, below 0 never.
	Retries int
	// RateLimit is how many requests a second each host gets. nil: the limits
	// of Quay, see rowOf, and for other hosts none until they answer 429, then for
	// a while what they were seen to take. 0: none.
	RateLimit *float64
	// Concurrency is how many requests each host gets at once. Blobs on their
	// way take at most half of that from requests, and are bounded by who moves
	// them. After 429 and 503 it is less for a while. 0 means 8.
	Concurrency int
	// BandwidthLimit is how many bytes of blobs a second come in, of all hosts
	// together, and how many go out. 0: no limit.
	BandwidthLimit int64
	// Peer is the other side of the run. Limits and pauses are shared with it,
	// since servers count by client; its RateLimit, Concurrency and
	// BandwidthLimit rule both.
	Peer *Transport
	// UserAgent is sent where a request has none. "" means "quaymaster".
	UserAgent string
	// Log takes details: retries, pauses, tokens asked for. nil discards them.
	Log *slog.Logger
}

// A Transport carries the requests of one side of a run. It is safe for
// concurrent use.
type Transport struct {
	opt    Options
	log    *slog.Logger
	limits *limits
	agent  []string       // the header
	roots  *x509.CertPool // nil: the system's

	mu       sync.Mutex
	hosts    map[string]*host
	names    map[hostName]*host
	sessions map[sessionKey]*session

	// For tests.
	base    time.Duration               // of the backoff
	resolve func(addr string) string    // dials another address
	pretend func(netip.Addr) netip.Addr // judges an address as another
	idle    time.Duration               // in place of bodyIdle
}

type sessionKey struct {
	host *host
	cred Credential
}

// New makes a transport. The error names a CA file that can't be used and
// matches [oci.ErrUsage].
func New(o Options) (*Transport, error) {
	t := &Transport{
		opt:      o,
		log:      cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		hosts:    map[string]*host{},
		sessions: map[sessionKey]*session{},
		names:    map[hostName]*host{},
		agent:    []string{cmp.Or(o.UserAgent, "quaymaster")},
		base:     backoffBase,
		idle:     bodyIdle,
	}
	if o.Side != "" {
		t.log = t.log.With("side", o.Side)
	}
	if o.Peer != nil {
		t.limits = o.Peer.limits
	} else {
		t.limits = &limits{rate: o.RateLimit, most: o.Concurrency, up: newPace(o.BandwidthLimit), down: newPace(o.BandwidthLimit)}
	}
	if len(o.CAFiles) > 0 {
		roots, err := caPool(o.CAFiles)
		if err != nil {
			return nil, err
		}
		t.roots = roots
	}
	return t, nil
}

// Client gives the HTTP client of this side. Redirects are followed by its
// RoundTripper, so an answer 3xx that a caller sees is one that isn't followed:
// a request with a body and 301, 302 or 303.
//
// Its errors are *url.Error, as net/http's always are, and show the URL that
// the caller asked for with its query; [Clean] takes it out.
func (t *Transport) Client() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: noFollow}
}

// Stats gives what was counted so far.
func (t *Transport) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Hosts: make(map[string]HostStats, len(t.hosts))}
	for _, h := range t.hosts {
		sum := HostStats{Requests: map[Kind]int64{}}
		sum.add(s.Hosts[h.url.Host]) // HTTP and HTTPS of one name
		sum.add(h.counts.snapshot())
		s.Hosts[h.url.Host] = sum
	}
	return s
}

// CloseIdle closes connections that carry nothing now.
func (t *Transport) CloseIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		h.closeIdle()
	}
}

func (t *Transport) attempts(h *host) int {
	n := t.opt.Retries
	if n == 0 {
		n = defaultRetries
	}
	if n < 0 || h.down() {
		n = 0
	}
	return n + 1
}

func (t *Transport) session(h *host, cred Credential) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := sessionKey{h, cred}
	s := t.sessions[key]
	if s == nil {
		s = &session{anonymous: cred.IsZero()}
		t.sessions[key] = s
	}
	return s
}

// credential gives the login for a repository.
func (t *Transport) credential(ctx context.Context, host, repo string) (Credential, error) {
	if t.opt.Credentials == nil {
		return Credential{}, nil
	}
	return t.opt.Credentials(ctx, host, repo)
}

func newGet(ctx context.Context, u *url.URL) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
}
