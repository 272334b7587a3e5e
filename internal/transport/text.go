package transport

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes a string from outside fit for a message: what doesn't print
// (control bytes, line ends, marks that turn the writing direction, broken
// UTF-8) is escaped as in Go source, and beyond n bytes it is cut.
func Text(s string, n int) string {
	var b strings.Builder
	for i, r := range s {
		if b.Len() >= n {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
				continue
			}
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// oneLine is [Text] with runs of white space made one blank first.
func oneLine(s string, n int) string {
	return Text(strings.Join(strings.Fields(s), " "), n)
}

// mask takes secrets out of s. Short ones are left: they would match by chance
// and tell by where they match.
func mask(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, "***")
			if q := url.QueryEscape(secret); q != secret {
				s = strings.ReplaceAll(s, q, "***")
			}
		}
	}
	return s
}

// CleanURL gives scheme, host and path of u: the query may be a signature or
// hold a session.
func CleanURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	return Text((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), 300)
}

// Clean takes off what net/http puts around err: the method and the URL with
// its query, which may be a secret. Which request it was is said by whoever
// made it. An error of another kind is left alone.
func Clean(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
