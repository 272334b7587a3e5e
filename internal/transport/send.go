package transport

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"time"
)

// once sends req when the host's limits allow it. It closes req's body.
func (t *Transport) once(req *http.Request, kind Kind, g guard) (*http.Response, error) {
	ctx := req.Context()
	host := req.URL.Host
	if t.forbidsName(g, req.URL.Hostname()) {
		closeBody(req)
		return nil, final("a public host named %s, a private address; it is not asked", Text(host, 100))
	}
	pool, err := t.pool(req.URL, g)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	h := t.host(req.URL)
	bucket, burst := h.limits.bucketOf(kind, req.URL, req.Header.Get("Authorization") == "")
	waited, err := h.limits.wait(ctx, bucket, burst)
	t.counts.waited(host, waited)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	t.counts.at(host, func(s *HostStats) { s.Requests[kind]++ })

	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", t.opt.UserAgent)
	}
	proxied := viaProxy(req.URL)
	ctx, cancel := context.WithCancelCause(ctx)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				t.counts.at(host, func(s *HostStats) { s.Connections++ })
			}
			if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil && !proxied {
				h.connected(t.seen(a.Addr()))
			}
		},
	})
	if proxied && !t.forbidsName(guardPrivate, req.URL.Hostname()) {
		h.connected(internet) // by all that can be known
	}
	watch := newWatch(cancel, answerTime(kind, req))
	req = req.WithContext(ctx)
	if hasBody(req) {
		req.Body = &sending{req.Body, watch}
	}
	resp, err := pool.RoundTrip(req)
	watch.stop()
	if err != nil {
		err = stalledOr(ctx, err)
		cancel(nil)
		return nil, err
	}
	h.limits.answered(resp.ProtoMajor == 2)
	t.heed(h, bucket, kind, req.Method, resp)
	if req.Method == http.MethodHead {
		cancel(nil)
		return resp, nil
	}
	resp.Body = newBody(ctx, cancel, resp.Body, t.idle, resp.StatusCode >= 300)
	if req.Method == http.MethodGet && kind != Blob && resp.StatusCode < 300 {
		if err := hold(resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

var internet = netip.MustParseAddr("192.0.2.1")

// heed slows down where an answer asks for it. A 429, and a 503 that says how
// long, hold the whole host back; a write that Quay's API refuses with 503 is
// about the repository only.
func (t *Transport) heed(h *host, b *bucket, kind Kind, method string, resp *http.Response) {
	limited := resp.StatusCode == http.StatusTooManyRequests
	if limited {
		t.counts.at(resp.Request.URL.Host, func(s *HostStats) { s.Limited++ })
		if b != nil {
			b.refused(time.Now())
		}
	}
	if !limited && resp.StatusCode != http.StatusServiceUnavailable || !limited && kind == API && method != http.MethodGet {
		return
	}
	d, capped := retryAfter(resp.Header, time.Now())
	switch {
	case d > 0:
	case limited:
		d = backoff(t.base, 0)
	default:
		return
	}
	if capped {
		t.log.Warn("a server asks for a longer pause than is waited for", "host", resp.Request.URL.Host, "waits", d)
	}
	t.log.Info("pause", "host", resp.Request.URL.Host, "status", resp.StatusCode, "for", d)
	h.limits.pause(d)
}
