package transport

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
)

// A host is what is known of one scheme, host and port.
type host struct {
	url     *url.URL // scheme and host only
	limits  *hostLimits
	counts  counters
	conns   conns
	proxied bool // requests go through the proxy that the environment names
	// asking is held by the one who finds out how the host wants logins, with a
	// question of its own or with the first request.
	asking chan struct{}
	// expected are scopes that will be needed.
	expected expected
	facts    sync.Map // see [Facts]

	mu        sync.Mutex
	pools     [guardPrivate + 1]*http.Transport
	offer     *challenge // of the last 401
	asked     bool       // whether /v2/ was asked, or a 401 came
	met       bool       // somebody found out, or gave up
	open      bool       // a repository was read without a token
	onNet     bool       // a connection went to a public address, once is enough
	exhausted int        // requests in a row that failed after every attempt
	probes    int        // how often /v2/ was asked in vain
	probeErr  error      // of the last of them
}

// giveUp is after how many requests in a row that failed for good a host gets
// one attempt a request, until one succeeds.
const giveUp = 5

// A hostName is a host as a URL writes it: one host may have several.
type hostName struct{ scheme, host string }

func (t *Transport) host(u *url.URL) *host {
	name := hostName{u.Scheme, u.Host}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.names[name]; h != nil {
		return h
	}
	key := u.Scheme + "://" + hostPort(u)
	h := t.hosts[key]
	if h == nil {
		h = &host{url: &url.URL{Scheme: u.Scheme, Host: u.Host}, limits: t.limits.at(u), asking: make(chan struct{}, 1)}
		if h.proxied = viaProxy(u); h.proxied && !t.forbidsName(guardPrivate, u.Hostname()) {
			h.onNet = true // by all that can be known
		}
		t.hosts[key] = h
	}
	t.names[name] = h
	return h
}

func (h *host) challenge() (c *challenge, asked bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.offer, h.asked
}

func (h *host) challenged(c *challenge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.met = true, true
	if c != nil {
		h.offer = c
	}
}

// scout waits while somebody makes the first request to h. The one who is to
// make it gets a function to call at its end; nil means that it was made.
func (h *host) scout(ctx context.Context) (end func(), err error) {
	h.mu.Lock()
	met := h.met
	h.mu.Unlock()
	if met {
		return nil, nil
	}
	select {
	case h.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	end = func() { <-h.asking }
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.met {
		end()
		return nil, nil
	}
	return end, nil
}

// scouted takes note of the answer to the first request, nil if there is none:
// then nobody waits any more, or each would wait for a dead host in turn.
func (h *host) scouted(resp *http.Response) {
	if resp != nil && resp.StatusCode == http.StatusUnauthorized {
		h.challenged(chooseChallenge(resp.Header))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.met = true
}

func (h *host) readable() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
}

func (h *host) isReadable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func (h *host) closeIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		if p != nil {
			p.CloseIdleConnections()
		}
	}
}

// connected notes the address of a connection.
func (h *host) connected(a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onNet = h.onNet || public(a)
}

func (h *host) public() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.onNet
}

// ended notes how a request ended, after every attempt.
func (h *host) ended(fault bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fault {
		h.exhausted++
	} else {
		h.exhausted = 0
	}
}

func (h *host) down() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.exhausted >= giveUp
}

// probed notes that /v2/ was asked in vain.
func (h *host) probed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes++
	h.probeErr = err
}

func (h *host) vain() (probes int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.probes, h.probeErr
}

// discover asks /v2/ how h wants logins, unless that is known. One asks, the
// others wait, and share its error: they would wait for a dead host in turn.
func (t *Transport) discover(ctx context.Context, h *host) error {
	before, _ := h.vain()
	select {
	case h.asking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-h.asking }()
	if _, asked := h.challenge(); asked {
		return nil
	}
	if probes, err := h.vain(); probes != before {
		return err
	}
	req, err := newGet(ctx, h.url.JoinPath("/v2/"))
	if err != nil {
		return err
	}
	resp, err := t.plain(req, Other, open)
	if err != nil {
		if ctx.Err() == nil { // else it was this one's end alone
			h.probed(err)
		}
		return err
	}
	resp.Body.Close()
	var c *challenge
	if resp.StatusCode == 401 {
		c = chooseChallenge(resp.Header)
	}
	h.challenged(c)
	return nil
}
