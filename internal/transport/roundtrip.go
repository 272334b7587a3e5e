package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A call is one request on its way through its attempts.
type call struct {
	req  *http.Request
	kind Kind
	repo string
	host *host
	// origin is the registry that led here, if it is not the host itself.
	origin *url.URL
	// signIn: this is a registry request that we find a login for.
	signIn bool
	sent   bool // the body was given away once

	cred    Credential
	tok     *token   // shown last, nil if none
	session *session // that tok is of
	need    scopes   // that tok is for
	fresh   bool     // tok came during this call
	basic   bool     // Basic was shown last
	renewed bool     // a 401 was answered with a fresh token or a login
	// narrowed: one was answered with a token for less than the one that was refused.
	narrowed bool
	extra    scopes // what a challenge asked for
	scout    func() // ends what c is the first to find out
	hint     string // why a login was not shown
	refetch  bool   // an expired redirect was asked for again
}

// RoundTrip sends req, as often as its kind allows, and gives the last answer.
// An error status is no error here.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := t.newCall(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	defer func() {
		if !c.sent {
			closeBody(req)
		}
	}()
	most := t.attempts(c.host)
	for attempt := 1; ; attempt++ {
		resp, err := t.exchange(c)
		if req.Context().Err() == nil && attempt < most && c.again(resp, err) {
			t.logRetry(c, resp, err, attempt)
			if werr := t.beforeRetry(req.Context(), c.host, resp, attempt); werr != nil {
				return nil, werr
			}
			continue
		}
		if req.Context().Err() == nil {
			c.host.ended(err != nil && retryableError(err) || err == nil && resp.StatusCode/100 == 5 && resp.StatusCode != http.StatusNotImplemented && c.kind != API)
		}
		if err != nil {
			return nil, explain(c, err)
		}
		if !c.plainSuccess(resp) {
			resp.Request = note{secrets: c.secrets(), hint: c.hintFor(resp)}.attach(resp.Request)
		}
		return resp, nil
	}
}

func (t *Transport) newCall(req *http.Request) (*call, error) {
	if req.URL == nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return nil, final("a request needs http or https and a host")
	}
	c := &call{req: req}
	c.kind, c.repo = classify(req.URL)
	origin, err := strayed(req)
	if err != nil {
		return nil, err
	}
	c.origin = origin
	c.host = t.host(req.URL)
	if origin != nil {
		c.req = hopRequest(req, req.URL, true)
	}
	c.signIn = origin == nil && req.Header.Get("Authorization") == "" &&
		(strings.HasPrefix(req.URL.Path, "/v2/") || req.URL.Path == "/v2")
	return c, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// replayable reports whether the request can be sent once more.
func (c *call) replayable() bool {
	return !c.sent || !hasBody(c.req) || c.req.GetBody != nil
}

// again reports whether an outcome is worth another attempt that does no harm.
// Uploads belong to whoever sends them: only the start of a session, which has
// no body, is repeated here. Quay's API answers 503 to a write in a read-only
// repository; that is a state, so its writes are repeated only behind a 429, which
// it never saw.
func (c *call) again(resp *http.Response, err error) bool {
	m := c.req.Method
	read := m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions
	start := c.kind == Upload && m == http.MethodPost && !hasBody(c.req)
	safe := read || c.kind == Manifest && (m == http.MethodPut || m == http.MethodDelete)
	if c.kind == API && err == nil && resp.StatusCode == http.StatusTooManyRequests {
		return c.replayable()
	}
	if !safe && !start || !c.replayable() {
		return false
	}
	if err != nil {
		var login *loginError // has had its attempts
		return !errors.As(err, &login) && retryableError(err)
	}
	if safe && Retryable(resp, nil) {
		return true
	}
	if m == http.MethodGet && c.kind == Blob && !c.refetch && resp.StatusCode == http.StatusForbidden && !sameOrigin(resp.Request.URL, c.req.URL) {
		c.refetch = true // the signature has expired; the registry gives a new one
		return true
	}
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
}

// beforeRetry lets go of an answer and waits. Where the host is paused, the
// next attempt waits for that anyway.
func (t *Transport) beforeRetry(ctx context.Context, h *host, resp *http.Response, attempt int) error {
	h.counts.retries.Add(1)
	if resp != nil {
		resp.Body.Close()
		asked, _ := retryAfter(resp.Header, time.Now())
		switch resp.StatusCode {
		case http.StatusForbidden:
			return nil
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			if asked > 0 {
				return nil
			}
		}
	}
	return sleep(ctx, backoff(t.base, attempt-1))
}

func (t *Transport) logRetry(c *call, resp *http.Response, err error, attempt int) {
	why := ""
	if err != nil {
		why = Text(err.Error(), 200)
	} else {
		why = resp.Status
	}
	t.log.Debug("send again", "method", c.req.Method, "url", CleanURL(c.req.URL), "attempt", attempt, "because", Text(why, 200))
}

// exchange signs in, sends, and answers one refusal with a fresh token.
func (t *Transport) exchange(c *call) (*http.Response, error) {
	for {
		authorization, err := t.authorize(c)
		if err != nil {
			if c.scout != nil { // others wait
				c.scout()
				c.scout = nil
			}
			return nil, &loginError{err}
		}
		resp, err := t.follow(c, authorization)
		if c.scout != nil {
			if resp != nil && !sameOrigin(resp.Request.URL, c.req.URL) {
				c.host.scouted(nil)
			} else {
				c.host.scouted(resp)
			}
			c.scout()
			c.scout = nil
		}
		if err != nil || !c.signIn || !sameOrigin(resp.Request.URL, c.req.URL) {
			return resp, err
		}
		switch {
		case resp.StatusCode == http.StatusUnauthorized && t.mayRenew(c, resp),
			resp.StatusCode == http.StatusForbidden && c.mayAskAlone():
			resp.Body.Close()
			continue
		case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		case c.tok != nil && !Retryable(resp, nil): // what is busy may not have looked at the token
			c.session.worked(c.tok, c.need)
		case resp.StatusCode/100 == 2 && authorization == "" && c.repo != "":
			c.host.readable()
		}
		return resp, nil
	}
}

// A loginError is a failure to sign in. It has had its attempts.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// follow sends the request and follows redirects. authorization is shown to
// the host itself only, and only under /v2/.
func (t *Transport) follow(c *call, authorization string) (*http.Response, error) {
	req, h, left, guarded := c.req, c.host, false, open
	if c.origin != nil && t.host(c.origin).public() {
		guarded = guardLocal
	}
	for hop := 0; ; hop++ {
		g := open
		if h != c.host || c.origin != nil {
			g = guarded
		}
		show := authorization
		if left || hop > 0 && !strings.HasPrefix(req.URL.Path, "/v2/") {
			show = ""
		}
		resp, err := t.send(c, h, req, show, g)
		if err != nil {
			return nil, err
		}
		u, err := nextHop(resp)
		if u == nil && err == nil || err == nil && !c.replayable() {
			return resp, nil
		}
		resp.Body.Close()
		if err == nil && hop == maxHops {
			err = final("%s: %v", Text(c.req.URL.Host, 100), errTooManyHops)
		}
		if err != nil {
			return nil, err
		}
		if h.public() {
			guarded = guardLocal
		}
		h = t.host(u)
		left = left || h != c.host
		req = hopRequest(req, u, left)
	}
}

// send sends one request to h, as it is but for authorization.
func (t *Transport) send(c *call, h *host, req *http.Request, authorization string, g guard) (*http.Response, error) {
	if !hasBody(c.req) {
		return t.once(h, req, authorization, c.kind, g)
	}
	out := req.WithContext(req.Context())
	if c.sent {
		b, err := c.req.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = b
	}
	c.sent = true
	resp, err := t.once(h, out, authorization, c.kind, g)
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// plain sends a request of our own, a token's or a probe, with its attempts.
// It neither signs in nor follows redirects.
func (t *Transport) plain(req *http.Request, kind Kind, g guard) (*http.Response, error) {
	h := t.host(req.URL)
	most := t.attempts(h)
	for attempt := 1; ; attempt++ {
		out := req
		if req.GetBody != nil {
			b, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			out = req.WithContext(req.Context())
			out.Body = b
		}
		resp, err := t.once(h, out, "", kind, g)
		if attempt == most || req.Context().Err() != nil || !Retryable(resp, err) {
			return resp, err
		}
		if err := t.beforeRetry(req.Context(), h, resp, attempt); err != nil {
			return nil, err
		}
	}
}

// explain gives the error of a call that has no answer, and what the user can
// do about it.
func explain(c *call, err error) error {
	switch cause := context.Cause(c.req.Context()); {
	case cause != nil:
		return cause
	case errors.As(err, new(tls.RecordHeaderError)):
		return fmt.Errorf("%w (if it speaks plain HTTP: --plain-http)", err)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("%w (--ca-file or --cert-dir name its authority)", err)
	case err == io.EOF: // net/http's bare word for it
		return fmt.Errorf("the server closed the connection: %w", err)
	}
	return err
}

// plainSuccess reports whether no error will be made of resp: it is what a
// request like this hopes for.
func (c *call) plainSuccess(resp *http.Response) bool {
	switch c.req.Method {
	case http.MethodGet, http.MethodHead:
		return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
	case http.MethodPost, http.MethodPatch:
		return c.kind == Upload && (resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusCreated)
	case http.MethodPut:
		return resp.StatusCode == http.StatusCreated
	}
	return false
}

func (c *call) secrets() []string {
	s := c.cred.secrets()
	if c.tok != nil {
		s = append(s, c.tok.value)
	}
	return s
}

func (c *call) hintFor(resp *http.Response) string {
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return c.hint
	}
	return ""
}

func answerTime(kind Kind, req *http.Request) time.Duration {
	if hasBody(req) || kind == Upload {
		return uploadWait
	}
	return answerWait
}
