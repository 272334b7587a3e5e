package transport

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// A realm is a token service that a registry named, judged.
type realm struct {
	url *url.URL
	// trusted: credentials may be shown to it.
	trusted bool
	// foreign: neither the registry's host nor one that the user named, so it
	// may not be at an address that the registry has no business to name.
	foreign bool
}

// judgeRealm says whether the token service that registry named may be asked
// at all, and whether with credentials. They go to the registry's own host, to
// its registrable domain (auth.docker.io for registry-1.docker.io), and to the
// hosts that the user named with --auth-realm; never over plain HTTP for a
// registry that speaks HTTPS.
func judgeRealm(registry *url.URL, raw string, named []string) (realm, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return realm{}, final("%s names a malformed token service", registry.Host)
	}
	u.Fragment = ""
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && registry.Scheme == "http":
	case u.Scheme == "http":
		return realm{}, final("%s names a token service without TLS, %s; it is not asked", registry.Host, Text(u.Host, 100))
	default:
		return realm{}, final("%s names a token service of scheme %s; it is not asked", registry.Host, Text(u.Scheme, 20))
	}
	r := realm{url: u}
	same := strings.EqualFold(hostPort(u), hostPort(registry))
	user := namedRealm(u, named)
	r.trusted = same || user || sameOwner(registry.Hostname(), u.Hostname())
	r.foreign = !same && !user
	return r, nil
}

func namedRealm(u *url.URL, named []string) bool {
	for _, n := range named {
		if strings.EqualFold(n, u.Hostname()) || strings.EqualFold(n, u.Host) || strings.EqualFold(n, hostPort(u)) {
			return true
		}
	}
	return false
}

// sameOwner reports whether two host names are one, or under one registrable
// domain. Ports don't matter then. Addresses, "localhost" and single labels
// have no owner that could be told: they are the same only with the same port,
// which the caller looks at. Neither have services of a cluster, whose names
// all end in the same two labels.
func sameOwner(a, b string) bool {
	a, b = domainName(a), domainName(b)
	if a == "" || b == "" {
		return false
	}
	da, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil || da == "cluster.local" {
		return a == b
	}
	db, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && da == db
}

func domainName(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") {
		return ""
	}
	return host
}

// hostPort gives u's host with its port, the scheme's own if it names none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// sameOrigin reports whether a and b have one scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Host == b.Host || strings.EqualFold(a.Scheme, b.Scheme) && hostPort(a) == hostPort(b)
}
