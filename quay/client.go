package quay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// DefaultHost is the Quay that is meant where none is named.
const DefaultHost = "quay.io"

// maxAnswer bounds the bytes of one answer, after decompression. A page is 100
// repositories, each with a description of any length.
const maxAnswer = 32 << 20

// maxListing bounds the entries of one listing, so that a server that makes up
// names for ever doesn't fill the memory.
const maxListing = 1 << 20

// maxRedirects is how often a request follows a redirect. Quay's own adds a
// slash to a path, once.
const maxRedirects = 3

// A Client talks to one Quay server. HTTP must be set; the zero value of the
// rest is an anonymous client of quay.io over HTTPS.
type Client struct {
	Host      string       // host[:port]; "" means [DefaultHost]
	Token     string       // OAuth 2 access token; "" is anonymous; in no error and no log
	HTTP      *http.Client // limits, retries, TLS; it must not follow redirects to other hosts with Authorization
	PlainHTTP bool         // speak http://, the token included
}

// host gives the host that c talks to.
func (c *Client) host() string { return cmp.Or(c.Host, DefaultHost) }

// ref names a repository in error texts.
func (c *Client) ref(repo string) string { return c.host() + "/" + repo }

// A request is one call of the API.
type request struct {
	method string     // "" means GET
	path   string     // behind /api/v1, from [apiPath]; errors show it
	query  url.Values // nil for none
	body   any        // sent as JSON; nil sends none
}

func (r request) String() string { return cmp.Or(r.method, http.MethodGet) + " /api/v1" + r.path }

// ErrNotQuay means that what answers speaks another language than Quay's API.
var ErrNotQuay = errors.New("the answer isn't Quay's")

// An answer is what a call gave.
type answer struct {
	body []byte
	date time.Time // the server's clock, or ours where it doesn't tell
}

// decode reads the answer into v, leniently: unknown fields are left out.
func (a answer) decode(r request, v any) error {
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("%s: %w: %w", r, ErrNotQuay, err)
	}
	return nil
}

// apiPath joins the parts of a path. Slashes within a part stay as they are,
// since nested repository names are written so; all else is escaped.
func apiPath(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		for segment := range strings.SplitSeq(part, "/") {
			b.WriteString("/" + url.PathEscape(segment))
		}
	}
	return b.String()
}

// do sends r and gives its answer. An answer that is no success is a
// [*StatusError].
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	if c.HTTP == nil {
		return answer{}, errors.New("quay: a Client without HTTP")
	}
	if !oci.ValidHost(c.host()) {
		return answer{}, oci.Usage(fmt.Sprintf("%q is no host; write host or host:port", c.host()))
	}
	scheme := "https"
	if c.PlainHTTP {
		scheme = "http"
	}
	u, err := url.Parse(scheme + "://" + c.host() + "/api/v1" + r.path + "?" + r.query.Encode())
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", r, err)
	}
	for range maxRedirects + 1 {
		resp, err := c.send(ctx, r, u)
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", r, plainError(err))
		}
		// A RoundTripper that follows redirects has lost the token on the way.
		if at := resp.Request; at != nil && !sameHost(at.URL, u) {
			_ = resp.Body.Close()
			return answer{}, fmt.Errorf("%s: %w", r, elsewhere(at.URL))
		}
		if !redirects(resp.StatusCode, r) {
			return c.read(r, resp)
		}
		if u, err = c.redirect(u, resp); err != nil {
			return answer{}, fmt.Errorf("%s: %w", r, err)
		}
	}
	return answer{}, fmt.Errorf("%s: more than %d redirects", r, maxRedirects)
}

func (c *Client) send(ctx context.Context, r request, u *url.URL) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodGet), u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json") // without it Quay answers 415
	}
	if token := strings.TrimSpace(c.Token); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Redirects are ours: net/http would follow one to another host without
	// the token, and Quay would answer with the stranger's shorter list.
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client.Do(req)
}

// redirects reports whether status sends r elsewhere in a way that keeps its
// method and body.
func redirects(status int, r request) bool {
	switch status {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	case http.StatusMovedPermanently, http.StatusFound:
		return r.body == nil && cmp.Or(r.method, http.MethodGet) == http.MethodGet
	}
	return false
}

// redirect gives where resp sends the request of u. It must be the same host;
// the scheme stays, since a Quay behind a proxy that ends TLS may name http.
func (c *Client) redirect(u *url.URL, resp *http.Response) (*url.URL, error) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody) // so that the connection is used again
	_ = resp.Body.Close()
	to, err := u.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, fmt.Errorf("%s with no usable Location", resp.Status)
	}
	if !sameHost(to, u) {
		return nil, elsewhere(to)
	}
	to.Scheme, to.Host, to.User = u.Scheme, u.Host, nil
	return to, nil
}

// sameHost reports whether to is at u's host and port, or names no port.
func sameHost(to, u *url.URL) bool {
	return strings.EqualFold(to.Hostname(), u.Hostname()) && (to.Port() == "" || to.Port() == port(u))
}

func elsewhere(to *url.URL) error {
	return fmt.Errorf("it redirects to the host %q; name the Quay by the host that it answers on", to.Host)
}

func port(u *url.URL) string {
	if u.Port() == "" && u.Scheme == "https" {
		return "443"
	}
	return cmp.Or(u.Port(), "80")
}

// read takes the answer of r from resp.
func (c *Client) read(r request, resp *http.Response) (answer, error) {
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return answer{}, c.statusError(r, resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("%s: read the answer: %w", r, err)
	}
	if len(raw) > maxAnswer {
		return answer{}, fmt.Errorf("%s: an answer over %d bytes: %w", r, maxAnswer, oci.ErrTooLarge)
	}
	a := answer{body: raw, date: time.Now()}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = date
	}
	return a, nil
}

// plainError takes off the wrapping that repeats method and URL.
func plainError(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
