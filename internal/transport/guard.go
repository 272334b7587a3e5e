package transport

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// A guard says which addresses a connection may not go to. It matters where a
// registry on a public address names the next host: a redirect, a token
// service, an upload's location. What the user names is never guarded.
type guard int

const (
	open         guard = iota
	guardLocal         // no loopback, link-local, metadata services
	guardPrivate       // nor private networks
)

// Metadata services of clouds that live in ranges which are otherwise fine.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("168.63.129.16"),   // Azure
}

var sharedRange = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func (g guard) forbids(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	switch {
	case g == open:
		return false
	case a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified():
		return true
	}
	for _, m := range metadata {
		if a == m {
			return true
		}
	}
	return g == guardPrivate && !public(a)
}

// public reports whether a is an address of the Internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedRange.Contains(a)
}

// forbidsName looks at what a host name says by itself. Names are resolved
// late, so the dialer looks again at the address; behind a proxy this is all.
func (t *Transport) forbidsName(g guard, host string) bool {
	if g == open {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && g.forbids(t.seen(a))
}

// dialer gives the dial function of connections to h under g.
func (t *Transport) dialer(h *host, g guard) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if g != open {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || g.forbids(t.seen(ap.Addr())) {
				return final("a public host named %s, a private address; it is not asked", address)
			}
			return nil
		}
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if t.resolve != nil {
			addr = t.resolve(addr)
		}
		if err := h.conns.reserve(ctx); err != nil {
			return nil, err
		}
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			h.conns.change(-1, 0)
			return nil, err
		}
		h.counts.connections.Add(1)
		if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && !h.proxied {
			h.connected(t.seen(a.Addr()))
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil // never, with tcp
		}
		return &conn{TCPConn: tcp, of: &h.conns}, nil
	}
}

// seen is how address a counts. Tests make loopback addresses public.
func (t *Transport) seen(a netip.Addr) netip.Addr {
	if t.pretend != nil {
		return t.pretend(a.Unmap())
	}
	return a
}

// viaProxy reports whether requests to u go through the proxy that the
// environment names. The addresses that are dialled are the proxy's then.
func viaProxy(u *url.URL) bool {
	p, err := proxy(&http.Request{URL: u})
	return err == nil && p != nil
}

// proxy is net/http's, without its error, which may show the proxy's password.
func proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, final("the proxy's address in the environment is malformed")
	}
	return u, nil
}
