package transport

import (
	"net/http"
	"strings"
)

// A challenge is one way to sign in that a 401 answer offers.
type challenge struct {
	scheme  string // lower case: "bearer", "basic", ...
	realm   string // of bearer: the URL of the token service
	service string
	scope   scopes // what the refused request needed, if it was said
}

// maxChallenge bounds what is read of one WWW-Authenticate header, in bytes.
const maxChallenge = 8 << 10

// chooseChallenge picks the best offer of a 401 answer: a bearer token, else
// Basic. nil means that there is none that we understand.
func chooseChallenge(h http.Header) *challenge {
	var basic *challenge
	for _, value := range h.Values("WWW-Authenticate") {
		for _, c := range parseChallenges(value) {
			switch {
			case c.scheme == "bearer" && c.realm != "":
				return &c
			case c.scheme == "basic" && basic == nil:
				basic = &c
			}
		}
	}
	return basic
}

// parseChallenges reads a WWW-Authenticate header, which may hold several
// challenges. It stops at the first byte that breaks the grammar of RFC 9110
// section 11.6.1 and drops the challenge that the byte is in; one that gives a
// parameter twice is dropped too, since readers differ in which one counts.
func parseChallenges(s string) []challenge {
	if len(s) > maxChallenge {
		return nil
	}
	var found []challenge
	p := parser{s}
	for {
		p.skip(" \t,")
		scheme := p.token()
		if scheme == "" {
			return found
		}
		c := challenge{scheme: strings.ToLower(scheme)}
		params, ok := p.params()
		if ok {
			c.realm, c.service = params["realm"], params["service"]
			c.scope = parseScopes(strings.Fields(params["scope"]))
			found = append(found, c)
		}
		if params == nil {
			return found
		}
	}
}

type parser struct{ rest string }

func (p *parser) skip(set string) { p.rest = strings.TrimLeft(p.rest, set) }

func (p *parser) token() string {
	i := 0
	for i < len(p.rest) && isTokenByte(p.rest[i]) {
		i++
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

// params reads the parameters of one challenge, up to the next one's scheme.
// nil means that the rest can't be read; false that this challenge is no good.
func (p *parser) params() (map[string]string, bool) {
	params := map[string]string{}
	if p.rest == "" || p.rest[0] == ',' {
		return params, true
	}
	if p.rest[0] != ' ' && p.rest[0] != '\t' {
		return nil, false
	}
	ok := true
	for {
		p.skip(" \t,")
		before := p.rest
		key := strings.ToLower(p.token())
		if key == "" {
			if p.rest == "" {
				return params, ok
			}
			return nil, false
		}
		p.skip(" \t")
		if p.rest == "" || p.rest[0] != '=' {
			p.rest = before // a scheme, then: the next challenge
			return params, ok
		}
		p.rest = p.rest[1:]
		p.skip(" \t")
		if p.rest == "" || p.rest[0] == '=' || p.rest[0] == ',' {
			p.skip("=") // a token68, as Negotiate has them: nothing for us
			continue
		}
		value, good := p.value()
		if !good {
			return nil, false
		}
		if _, twice := params[key]; twice {
			ok = false
		}
		params[key] = value
		p.skip(" \t")
		if p.rest != "" && p.rest[0] != ',' {
			return nil, false
		}
	}
}

func (p *parser) value() (string, bool) {
	if p.rest[0] != '"' {
		t := p.token()
		return t, t != ""
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
