package oci

import (
	_ "crypto/sha256" // for digests
	_ "crypto/sha512"
	"fmt"
	"strings"
)

// Ref is a reference: host/repository[:tag][@digest].
type Ref struct {
	Registry   string // host[:port]; "" only for names inside a layout or archive
	Repository string // "kolla/nova-api"
	Tag        string
	Digest     Digest
}

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
			s = "***" + s[strings.LastIndexByte(s, '@'):] // it may be a login, which is nobody's business
			return fail("what follows the @ is no digest")
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
	return strings.Contains(reference, ":") && ValidDigest(Digest(reference)) == nil
}
