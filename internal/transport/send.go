package transport

import (
	"net/http"
	"time"
)

// once sends req to h when the host's limits allow it, with authorization if
// that isn't "", and closes req's body. It leaves req as it is.
func (t *Transport) once(h *host, req *http.Request, authorization string, kind Kind, g guard) (*http.Response, error) {
	pool, err := h.admit(t, g)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if authorization == "" {
		authorization = req.Header.Get("Authorization")
	}
	stream := kind == Upload && hasBody(req) && req.Context().Value(heldKey{}) == nil
	zone, err := h.enter(req, kind, authorization == "", stream)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	h.counts.request(kind)
	resp, err := t.exchanged(h, pool, req, authorization, kind)
	if err != nil {
		h.limits.gate.leave(stream)
		return nil, err
	}
	h.limits.answered(resp.ProtoMajor == 2)
	t.heed(h, zone, kind, req.Method, resp)
	if b, ok := resp.Body.(*body); ok {
		switch {
		case resp.StatusCode >= 300:
			b.text(resp)
		case kind == Blob:
			b.blob, b.pace = h, t.limits.down
			h.limits.gate.flow()
			return resp, nil
		default:
			err = b.hold(resp)
		}
	}
	h.limits.gate.leave(stream)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// admit gives the connections to h, if g lets it be asked.
func (h *host) admit(t *Transport, g guard) (*http.Transport, error) {
	if t.forbidsName(g, h.url.Hostname()) {
		return nil, final("a public host named %s, a private address; it is not asked", Text(h.url.Host, 100))
	}
	return t.pool(h, g)
}

// enter waits for what rules h: the rate, a pause, and how much goes at once.
func (h *host) enter(req *http.Request, kind Kind, anonymous, stream bool) (*bucket, error) {
	b, burst := h.limits.bucketOf(kind, req.URL, anonymous)
	ctx := req.Context()
	waited, err := h.limits.wait(ctx, b, burst)
	h.counts.waited(waited)
	if err != nil {
		return nil, err
	}
	held, err := h.limits.gate.enter(ctx, stream)
	if err != nil || !held {
		return b, err
	}
	if _, err := h.limits.waitPause(ctx); err != nil { // it may have come while we waited
		h.limits.gate.leave(stream)
		return nil, err
	}
	return b, nil
}

// exchanged sends req and gives the answer, its body under a watch.
func (t *Transport) exchanged(h *host, pool *http.Transport, req *http.Request, authorization string, kind Kind) (*http.Response, error) {
	watch := newWatch(req.Context(), &h.conns, answerTime(kind, req))
	out := req.WithContext(watch)
	out.Header = make(http.Header, len(req.Header)+2)
	for name, values := range req.Header {
		out.Header[name] = values
	}
	if authorization != "" {
		out.Header["Authorization"] = []string{authorization}
	}
	if len(out.Header["User-Agent"]) == 0 {
		out.Header["User-Agent"] = t.agent
	}
	if kind == Upload {
		out.GetBody = nil // or net/http would send an upload twice by itself
	}
	if hasBody(req) {
		s := &sending{ReadCloser: req.Body, watch: watch}
		if kind == Upload {
			s.blob, s.pace = h, t.limits.up
		}
		out.Body = s
	}
	resp, err := pool.RoundTrip(out)
	watch.stop()
	if err != nil {
		err = stalledOr(watch, err)
		watch.end()
		return nil, err
	}
	resp.Request = req // without our Authorization
	if req.Method == http.MethodHead {
		watch.end()
		return resp, nil
	}
	resp.Body = &body{ReadCloser: resp.Body, watch: watch, idle: t.idle}
	return resp, nil
}

// heed slows down where an answer asks for it. A 429, and a 503 that says how
// long, hold the whole host back, and either lets less go there at once; a
// write that Quay's API refuses with 503 is about the repository only.
func (t *Transport) heed(h *host, b *bucket, kind Kind, method string, resp *http.Response) {
	limited := resp.StatusCode == http.StatusTooManyRequests
	if limited {
		h.counts.limited.Add(1)
	}
	switch {
	case b == nil:
	case limited:
		b.refused(time.Now())
	default:
		b.accepted(time.Now())
	}
	if !limited && resp.StatusCode != http.StatusServiceUnavailable || !limited && kind == API && method != http.MethodGet {
		h.limits.gate.answered(false, time.Time{})
		return
	}
	h.limits.gate.answered(true, time.Now())
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
