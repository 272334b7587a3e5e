package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// DefaultHost is where a daemon is that nobody named.
const DefaultHost = "unix:///var/run/docker.sock"

// A Client speaks to one daemon. It is safe for concurrent use.
type Client struct {
	host  string // as in DOCKER_HOST
	local bool
	base  string // of URLs
	http  *http.Client
}

// New makes a client of the daemon at host, in the form of DOCKER_HOST:
// unix:///PATH, tcp://HOST:PORT, or a bare /PATH. "" is [DefaultHost]. With a
// folder certs (ca.pem, cert.pem and key.pem, as docker has them) TLS is spoken to
// tcp://, else none. Nothing is sent yet. The error matches [oci.ErrUsage].
func New(host, certs string) (*Client, error) {
	if host == "" {
		host = DefaultHost
	}
	if strings.HasPrefix(host, "/") {
		host = "unix://" + host
	}
	scheme, rest, _ := strings.Cut(host, "://")
	if rest == "" {
		return nil, oci.Usage(fmt.Sprintf("%q names no daemon: write unix:///PATH or tcp://HOST:PORT", host))
	}
	c := &Client{host: host}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t := &http.Transport{MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
	switch scheme {
	case "unix":
		c.local, c.base = true, "http://daemon"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", rest)
		}
	case "tcp", "http":
		rest = strings.TrimSuffix(rest, "/")
		if !oci.ValidHost(rest) {
			return nil, oci.Usage(fmt.Sprintf("%q names no daemon: write tcp://HOST:PORT", host))
		}
		base, port := "http://", ":2375"
		if certs != "" {
			base, port = "https://", ":2376"
			var err error
			if t.TLSClientConfig, err = readCerts(certs); err != nil {
				return nil, oci.Usage(fmt.Sprintf("TLS with the daemon at %s: %v", host, err))
			}
		}
		name, _, err := net.SplitHostPort(rest)
		if err != nil {
			name, rest = rest, rest+port
		}
		ip := net.ParseIP(name)
		c.local, c.base = name == "localhost" || ip != nil && ip.IsLoopback(), base+rest
		t.DialContext = dialer.DialContext
	case "ssh":
		return nil, oci.Usage(fmt.Sprintf("%q: daemons aren't reached by ssh; let ssh bring the socket here (ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock …) and say socket=/tmp/docker.sock", host))
	default:
		return nil, oci.Usage(fmt.Sprintf("%q: daemons are reached by unix:///PATH or tcp://HOST:PORT, not by %s", host, scheme))
	}
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// String gives where the daemon is, in the form of DOCKER_HOST.
func (c *Client) String() string { return c.host }

// Local reports whether the daemon is on this machine, as far as its address
// says.
func (c *Client) Local() bool { return c.local }

// Close ends connections that aren't in use.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// A Call is one request.
type Call struct {
	Method string // "" is GET
	Path   string // "/images/" + [EscapeRef](name) + "/json"
	Query  url.Values
	Header http.Header
	Body   io.Reader // nil is none
}

// Do sends a call. An answer of 400 and above is an error that holds the
// daemon's words: a [StatusError], matching [oci.ErrNotFound] or [oci.ErrDenied]
// too. The caller closes the answer's body; ctx rules its reads.
func (c *Client) Do(ctx context.Context, call Call) (*http.Response, error) {
	u := c.base + call.Path
	if len(call.Query) > 0 {
		u += "?" + call.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, u, call.Body)
	if err != nil {
		return nil, c.wrap(err)
	}
	for name, values := range call.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, c.wrap(reached(err))
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.wrap(statusError(resp))
	}
	return resp, nil
}

func (c *Client) wrap(err error) error {
	return oci.Wrap(err, "ask daemon", c.host, oci.Descriptor{})
}

// reached says in plain words why the daemon couldn't be reached.
func reached(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no socket; is the daemon running?")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nobody listens there; is the daemon running?")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the socket may not be used by this user", oci.ErrDenied)
	}
	return err
}
