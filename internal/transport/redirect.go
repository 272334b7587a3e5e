package transport

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// maxHops is how many redirects one request follows, net/http's number.
const maxHops = 10

// nextHop gives where an answer redirects to, nil if it doesn't, or not for a
// request like this: what has a body goes on only by 307 and 308, which keep
// it, and only to the same host.
func nextHop(resp *http.Response) (*url.URL, error) {
	req := resp.Request
	read := req.Method == http.MethodGet || req.Method == http.MethodHead
	keeps := false
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		keeps = true
	default:
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, nil
	}
	from := Text(req.URL.Host, 100)
	u, err := req.URL.Parse(location)
	if err != nil || u.Host == "" {
		// Also where it isn't followed: net/http would show it in its error.
		return nil, final("%s redirects to a malformed address", from)
	}
	if !read && !keeps {
		return nil, nil
	}
	to := Text(u.Host, 100)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, final("%s redirects to scheme %s", from, Text(u.Scheme, 20))
	case u.Scheme == "http" && req.URL.Scheme == "https":
		return nil, final("%s redirects from HTTPS to plain HTTP, at %s", from, to)
	case u.User != nil:
		return nil, final("%s redirects to an address with a password in it, at %s", from, to)
	case !read && !sameOrigin(u, req.URL):
		return nil, final("%s redirects a %s to another host, %s", from, req.Method, to)
	}
	return u, nil
}

// hopRequest makes the request that follows a redirect. Once it has left the
// host that was asked first, left, what only that host may see is gone, also
// if a later redirect leads back.
func hopRequest(req *http.Request, u *url.URL, left bool) *http.Request {
	next := req.Clone(req.Context())
	next.URL, next.Host = u, ""
	if left {
		for _, h := range []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Referer"} {
			next.Header.Del(h)
		}
	}
	return next
}

type originKey struct{}

// WithOrigin says that the URLs of requests with ctx were given by the
// registry at origin: an upload's Location, a Link. Those that lead to another
// scheme, host or port get no credentials, may not go from HTTPS to plain
// HTTP, and, if origin is on a public address, not to a private one.
func WithOrigin(ctx context.Context, origin *url.URL) context.Context {
	return context.WithValue(ctx, originKey{}, &url.URL{Scheme: origin.Scheme, Host: origin.Host})
}

// strayed gives the origin of a request that leads away from it, else nil.
func strayed(req *http.Request) (*url.URL, error) {
	origin, _ := req.Context().Value(originKey{}).(*url.URL)
	if origin == nil || sameOrigin(origin, req.URL) {
		return nil, nil
	}
	if origin.Scheme == "https" && req.URL.Scheme != "https" {
		return nil, final("%s leads from HTTPS to %s, at %s", Text(origin.Host, 100), Text(req.URL.Scheme, 20), Text(req.URL.Host, 100))
	}
	return origin, nil
}

// noFollow keeps http.Client from following redirects: the RoundTripper did.
func noFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

var errTooManyHops = errors.New("more than 10 redirects")
