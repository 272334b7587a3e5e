package oci

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Classes of characters. These are no regular expressions because a listing
// looks at 100,000 names, and every start of the program would compile them.
const (
	lower   = "abcdefghijklmnopqrstuvwxyz0123456789"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	hexText = "0123456789abcdef"
)

// A charset is a set of ASCII characters.
type charset [128]bool

func chars(s string) *charset {
	var c charset
	for i := range len(s) {
		c[s[i]] = true
	}
	return &c
}

var (
	inComponent = chars(lower + "._-")
	inTag       = chars(lower + upper + "_.-")
	inHost      = inTag
	inHex       = chars(hexText)
	alphanum    = chars(lower + upper)
)

func (c *charset) has(b byte) bool { return b < 128 && c[b] }

// all reports whether s consists of c.
func (c *charset) all(s string) bool {
	for i := range len(s) {
		if !c.has(s[i]) {
			return false
		}
	}
	return true
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
	return host != "" && len(host) <= 253 && inHost.all(host) && alphanum.has(host[0]) && alphanum.has(host[len(host)-1]) &&
		!strings.Contains(host, "..")
}

// ValidRepository reports whether s is a repository path, by the rules of the
// distribution specification or of Quay: at most 255 bytes of a/b/c.
//
// Quay accepts names that the distribution specification doesn't ("a--b",
// "a-"), so a path component is what Quay takes; both keep out "..", upper
// case, white space and control bytes.
func ValidRepository(s string) bool {
	if len(s) > 255 {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || strings.IndexByte("._-", part[0]) >= 0 || !inComponent.all(part) {
			return false
		}
	}
	return true
}

// ValidTag reports whether s is a tag: at most 128 of [A-Za-z0-9_.-], not
// beginning with a dot or dash.
func ValidTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && inTag.all(s)
}

// ValidDigest returns an error matching [ErrInvalid] unless d is a sha256,
// sha384 or sha512 digest in lower case.
func ValidDigest(d Digest) error {
	if text, ok := strings.CutPrefix(string(d), "sha256:"); ok && len(text) == 64 && inHex.all(text) {
		return nil // nearly all are
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", d, ErrInvalid, err)
	}
	return nil
}
