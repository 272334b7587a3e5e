package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// connFlags say how hosts are spoken to. Those with two more names, --src-…
// and --dest-…, may differ by side.
type connFlags struct {
	plainHTTP  sided
	tlsVerify  sided
	caFiles    []string
	certDir    string
	authRealms []string
	retries    int
	rateLimit  string
	bandwidth  string
}

// sided is a yes or no that may be set for both sides or for one.
type sided struct{ both, src, dest tristate }

func (f *connFlags) add(p *pflag.FlagSet) {
	f.plainHTTP.add(p, "plain-http", "speak HTTP to registries")
	p.Var(&f.plainHTTP.both, "insecure", "the same as --plain-http")
	p.Lookup("insecure").NoOptDefVal = "true"
	f.tlsVerify.add(p, "tls-verify", "check certificates; =false doesn't")
	p.StringArrayVar(&f.caFiles, "ca-file", nil, "trust the certificates in `FILE` (PEM) as well; repeatable")
	p.StringVar(&f.certDir, "cert-dir", "", "`DIR`/HOST[:PORT] holds *.crt, *.cert and *.key (default: docker's and containers' certs.d)")
	p.StringArrayVar(&f.authRealms, "auth-realm", nil, "`HOST` may be given credentials as a registry's token service; repeatable")
	p.IntVar(&f.retries, "retries", 3, "further attempts after a failed request")
	p.StringVar(&f.rateLimit, "rate-limit", "", "requests per second and host, 0 for no limit (default: Quay's published limits)")
	p.StringVar(&f.bandwidth, "bwlimit", "", "`BYTES` of layers per second, in and out each, with K, M or G for KiB, MiB, GiB (default no limit)")
}

func (s *sided) add(p *pflag.FlagSet, name, help string) {
	for _, f := range []struct {
		v            *tristate
		prefix, side string
	}{{&s.both, "", ""}, {&s.src, "src-", " (source only)"}, {&s.dest, "dest-", " (destination only)"}} {
		p.Var(f.v, f.prefix+name, help+f.side)
		p.Lookup(f.prefix + name).NoOptDefVal = "true"
	}
}

// of gives the value for side: the URI's own option, else the side's flag,
// else the flag for both, else unset.
func (s *sided) of(name string, u backend.URI, options []string, unset bool) (bool, error) {
	for _, o := range options {
		if u.Option(o) != "" {
			return u.OptionBool(o, unset)
		}
	}
	one := s.src
	if name == destination {
		one = s.dest
	}
	for _, t := range []tristate{one, s.both} {
		if t.set {
			return t.value, nil
		}
	}
	return unset, nil
}

// The two sides of a run, as messages name them.
const (
	source      = "source"
	destination = "destination"
)

// transport makes the HTTP side of one place, and says whether it is to speak
// plain HTTP. peer is the other side's, nil if there is none.
func (a *app) transport(name string, u backend.URI, creds transport.CredentialFunc, peer *transport.Transport) (*transport.Transport, bool, error) {
	plain, err := a.conn.plainHTTP.of(name, u, []string{"plain-http", "insecure"}, false)
	if err != nil {
		return nil, false, err
	}
	verify, err := a.conn.tlsVerify.of(name, u, []string{"tls-verify"}, true)
	if err != nil {
		return nil, false, err
	}
	o := transport.Options{
		Side:        name,
		Credentials: creds,
		SkipVerify:  !verify,
		CAFiles:     a.conn.caFiles,
		CertDir:     a.conn.certDir,
		Home:        a.getenv("HOME"),
		AuthRealms:  a.conn.authRealms,
		Retries:     a.conn.retries,
		Concurrency: 2 * max(a.work.images, a.work.blobs),
		Peer:        peer,
		UserAgent:   "quaymaster/" + version(),
		Log:         a.log,
	}
	if o.Retries == 0 {
		o.Retries = -1 // 0 means the default there
	}
	if o.RateLimit, err = a.conn.requests(); err != nil {
		return nil, false, err
	}
	if o.BandwidthLimit, err = a.conn.bytes(); err != nil {
		return nil, false, err
	}
	t, err := transport.New(o)
	return t, plain, err
}

// requests gives --rate-limit, nil if it isn't set.
func (f *connFlags) requests() (*float64, error) {
	if f.rateLimit == "" {
		return nil, nil
	}
	limit, err := strconv.ParseFloat(f.rateLimit, 64)
	if err != nil || !(limit >= 0 && limit <= 1e6) { // NaN is neither
		return nil, oci.Usage(fmt.Sprintf("--rate-limit %s: write requests per second, for example 5 or 0.5; 0 for no limit", f.rateLimit))
	}
	return &limit, nil
}

// bytes gives --bwlimit in bytes per second, 0 for no limit.
func (f *connFlags) bytes() (int64, error) {
	if f.bandwidth == "" {
		return 0, nil
	}
	digits, unit := f.bandwidth, 1.0
	if i := strings.IndexByte("KMG", f.bandwidth[len(f.bandwidth)-1]&^0x20); i >= 0 {
		digits, unit = f.bandwidth[:len(f.bandwidth)-1], float64(int64(1)<<(10*(i+1)))
	}
	n, err := strconv.ParseFloat(digits, 64)
	if n *= unit; err != nil || n != 0 && !(n >= 1 && n <= 1<<50) {
		return 0, oci.Usage(fmt.Sprintf("--bwlimit %s: write bytes per second, for example 500K, 10M or 1.5G; 0 for no limit", f.bandwidth))
	}
	return int64(n), nil
}

// tristate is a flag that is true, false or unset.
type tristate struct{ set, value bool }

func (t *tristate) String() string {
	if !t.set {
		return ""
	}
	return strconv.FormatBool(t.value)
}

func (t *tristate) Set(s string) error {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("write true or false, not %q", s)
	}
	*t = tristate{set: true, value: v}
	return nil
}

func (t *tristate) Type() string { return "bool" }
