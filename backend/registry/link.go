package registry

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

var errLink = errors.New("a Link header that can't be read")

// nextLink finds the target of rel="next" in Link headers, by RFC 8288: several
// links in one, parameters in any order, values quoted or not. "" means that there
// is none.
func nextLink(headers []string) (string, error) {
	found := ""
	for _, rest := range headers {
		for {
			rest = strings.TrimLeft(rest, " \t,")
			if rest == "" {
				break
			}
			target, behind, ok := strings.Cut(rest, ">")
			if !ok || !strings.HasPrefix(target, "<") {
				return "", fmt.Errorf("%w: %w: %q", oci.ErrInvalid, errLink, transport.Text(rest, 200))
			}
			next, tail, err := linkParams(behind)
			if err != nil {
				return "", err
			}
			if next && found == "" {
				if found = strings.TrimSpace(target[1:]); found == "" {
					return "", fmt.Errorf("%w: %w: it leads nowhere", oci.ErrInvalid, errLink)
				}
			}
			rest = tail
		}
	}
	return found, nil
}

// linkParams reads the parameters of one link, up to the comma before the next
// link. next says whether its relation is "next"; only the first rel counts.
func linkParams(s string) (next bool, rest string, err error) {
	seen := false
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return next, s, nil
		}
		if s[0] != ';' {
			return false, "", fmt.Errorf("%w: %w: %q", oci.ErrInvalid, errLink, transport.Text(s, 200))
		}
		s = strings.TrimLeft(s[1:], " \t")
		end := strings.IndexAny(s, "=;,")
		if end < 0 {
			end = len(s)
		}
		name := strings.TrimRight(s[:end], " \t")
		s = s[end:]
		value := ""
		if strings.HasPrefix(s, "=") {
			if value, s, err = linkValue(strings.TrimLeft(s[1:], " \t")); err != nil {
				return false, "", err
			}
		}
		if strings.EqualFold(name, "rel") && !seen {
			seen = true
			for rel := range strings.FieldsSeq(value) {
				next = next || strings.EqualFold(rel, "next")
			}
		}
	}
}

// linkValue reads a token or a quoted string.
func linkValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ";, \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", fmt.Errorf("%w: %w: a quote isn't closed", oci.ErrInvalid, errLink)
}
