package oci

import (
	_ "crypto/sha256" // for digests
	_ "crypto/sha512"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Ref is a reference: host/repository[:tag][@digest].
type Ref struct {
	Registry   string // host[:port]; "" only for names inside a layout or archive
	Repository string // "kolla/nova-api"
	Tag        string
	Digest     Digest
}

// Quay accepts names that the distribution specification doesn't ("a--b",
// "a-"), so a path component is what Quay takes; both keep out "..", upper
// case, white space and control bytes.
var (
	componentRE = regexp.MustCompile(`^[a-z0-9][._a-z0-9-]*$`)
	tagRE       = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	hostRE      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// ParseRef reads host/repository[:tag][@digest]. Where s names no host (its
// first part has no dot, no port and is not "localhost") registry is taken; if
// that is "" too the error says so. It returns an error matching [ErrUsage].
func ParseRef(s, registry string) (Ref, error) {
	fail := func(why string) (Ref, error) {
		return Ref{}, Usage(fmt.Sprintf("%q is no reference: %s; write host/repository[:tag][@digest]", s, why))
	}
	var r Ref
	rest := s
	if name, dgst, ok := strings.Cut(rest, "@"); ok {
		if err := ValidDigest(Digest(dgst)); err != nil {
			return fail("its digest is malformed")
		}
		rest, r.Digest = name, Digest(dgst)
	}
	if host, name, ok := strings.Cut(rest, "/"); ok && looksLikeHost(host) {
		r.Registry, rest = host, name
	} else {
		r.Registry = registry
	}
	if r.Registry == "" {
		return fail("it names no registry host")
	}
	if !ValidHost(r.Registry) {
		return fail("its host is malformed")
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !ValidTag(r.Tag) {
			return fail("its tag is malformed")
		}
	}
	if !ValidRepository(rest) {
		return fail("its repository name is malformed")
	}
	r.Repository = rest
	return r, nil
}

func looksLikeHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:")
}

// ValidHost reports whether s is host, host:port or [IPv6]:port.
func ValidHost(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return false
		}
		host = h
		if strings.Contains(h, ":") {
			return net.ParseIP(h) != nil
		}
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return net.ParseIP(host[1:len(host)-1]) != nil
	}
	return len(host) <= 253 && hostRE.MatchString(host) && !strings.Contains(host, "..")
}

// ValidRepository reports whether s is a repository path, by the rules of the
// distribution specification or of Quay: at most 255 bytes of a/b/c.
func ValidRepository(s string) bool {
	if len(s) > 255 {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !componentRE.MatchString(part) {
			return false
		}
	}
	return true
}

// ValidTag reports whether s is a tag: at most 128 of [A-Za-z0-9_.-], not
// beginning with a dot or dash.
func ValidTag(s string) bool { return tagRE.MatchString(s) }

// ValidDigest returns an error matching [ErrInvalid] unless d is a sha256,
// sha384 or sha512 digest in lower case.
func ValidDigest(d Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", d, ErrInvalid, err)
	}
	return nil
}

// String gives the reference as it is written: host/repository:tag@digest. Of a
// name inside a layout that may be the tag or the digest alone.
func (r Ref) String() string {
	s := r.Name()
	if s != "" && r.Tag != "" {
		s += ":"
	}
	s += r.Tag
	if s != "" && r.Digest != "" {
		s += "@"
	}
	return s + string(r.Digest)
}

// Name gives host/repository.
func (r Ref) Name() string {
	if r.Registry == "" {
		return r.Repository
	}
	return r.Registry + "/" + r.Repository
}

// Tagged gives host/repository:tag, or with a digest only host/repository@digest.
func (r Ref) Tagged() string {
	if r.Tag != "" {
		r.Digest = ""
	}
	return r.String()
}

// Reference gives what a registry is asked for: the digest, else the tag.
func (r Ref) Reference() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}

// IsDigest reports whether reference, a tag or a digest, is a digest.
func IsDigest(reference string) bool {
	_, err := digest.Parse(reference)
	return err == nil
}
