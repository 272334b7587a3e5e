package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A token is a bearer token for one registry and one credential.
type token struct {
	value   string
	asked   scopes
	granted scopes    // what the JWT says; nil if it can't be read
	expires time.Time // when it is renewed, a little before it ends
	wide    bool      // asked for more than the first request needed

	// Of a session, under its lock.
	keys   []string        // that it is found by
	gone   bool            // no longer among the session's tokens
	lone   bool            // asked for a repository that was not granted among others
	served map[string]bool // of an opaque token: keys that the registry took it for
}

// serves reports whether t is worth sending for need: either it says so, or it
// was asked for just that. A service that grants less than it was asked for
// won't grant more the next time, so the registry's answer is what counts.
func (t *token) serves(need scopes) bool {
	return t.asked.cover(need) || t.granted != nil && t.granted.cover(need)
}

// lacks reports whether t is known not to allow need.
func (t *token) lacks(need scopes) bool { return t.granted != nil && !t.granted.cover(need) }

const (
	// tokenLife is how long a token lives that doesn't say, by the token
	// specification of distribution.
	tokenLife    = time.Minute
	maxTokenLife = 24 * time.Hour
	// maxTokenBody bounds the answer of a token service, in bytes. Tokens have
	// to fit into a header, so this is generous: many of them are kept.
	maxTokenBody = 64 << 10
	// maxGranted is how many scopes are remembered of what a token says that it
	// grants beyond what was asked for.
	maxGranted = 5 * maxScopes
)

// tokenRequest builds the request for a token: GET with Basic, as distribution
// has it, or with an identity token OAuth 2's POST. Each scope is a parameter
// of its own: Quay refuses several in one.
func tokenRequest(ctx context.Context, r realm, service string, want []string, cred Credential) (*http.Request, error) {
	if r.trusted && cred.IdentityToken != "" {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {cred.IdentityToken},
			"client_id": {"quaymaster"}, "service": {service},
		}
		if len(want) > 0 {
			form.Set("scope", strings.Join(want, " "))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, nil
	}
	u := *r.url
	q := u.Query()
	if service != "" {
		q.Set("service", service)
	}
	for _, s := range want {
		q.Add("scope", s)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if b := cred.basic(); b != "" && r.trusted {
		req.Header.Set("Authorization", b)
	}
	return req, nil
}

// readToken reads the answer of a token service. Times are counted from its
// own clock, so that ours may be wrong.
func readToken(resp *http.Response, asked scopes, now time.Time) (*token, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBody+1))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		IssuedAt    json.RawMessage `json:"issued_at"`
	}
	if len(raw) > maxTokenBody || json.Unmarshal(raw, &answer) != nil {
		return nil, final("the token service at %s answered what is no token", Text(resp.Request.URL.Host, 100))
	}
	t := &token{value: answer.Token, asked: asked}
	if t.value == "" {
		t.value = answer.AccessToken
	}
	if t.value == "" || strings.ContainsFunc(t.value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, final("the token service at %s answered no usable token", Text(resp.Request.URL.Host, 100))
	}
	served, err := http.ParseTime(resp.Header.Get("Date")) // zero if it doesn't say
	if err != nil {
		served = time.Time{}
	}
	life := tokenLife
	claims, isJWT := readJWT(t.value)
	if isJWT {
		t.granted = claims.scopes()
		if len(t.granted) > maxGranted {
			maps.DeleteFunc(t.granted, func(key string, _ []string) bool { _, ok := asked[key]; return !ok })
		}
		if l, ok := claims.life(served, now); ok {
			life = l
		}
	}
	if s := seconds(answer.ExpiresIn); s > 0 {
		l := s
		var issued time.Time
		if json.Unmarshal(answer.IssuedAt, &issued) == nil && !issued.IsZero() && served.After(issued) {
			l -= served.Sub(issued) // it comes from a cache of the service
		}
		if !isJWT || l < life {
			life = l
		}
	}
	life = min(max(life, 0), maxTokenLife)
	t.expires = now.Add(life - min(life/10, 30*time.Second))
	return t, nil
}

// seconds reads a JSON number, or a string that holds one, as a duration.
func seconds(raw json.RawMessage) time.Duration {
	var n json.Number
	if json.Unmarshal(raw, &n) != nil {
		return 0
	}
	f, err := n.Float64()
	if err != nil || f <= 0 {
		return 0
	}
	return time.Duration(min(f, maxTokenLife.Seconds()) * float64(time.Second))
}

// claims are the parts of a registry's JWT that we use. Its signature is the
// registry's business.
type claims struct {
	Exp    float64 `json:"exp"` // seconds since 1970, as iat and nbf
	Iat    float64 `json:"iat"`
	Access []struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	} `json:"access"`
	hasAccess bool
}

func readJWT(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return claims{}, false
	}
	var c claims
	if json.Unmarshal(raw, &c) != nil {
		return claims{}, false
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) == nil {
		_, c.hasAccess = keys["access"]
	}
	return c, true
}

// scopes gives what the token grants; nil if it doesn't say.
func (c claims) scopes() scopes {
	if !c.hasAccess {
		return nil
	}
	s := scopes{}
	for _, a := range c.Access {
		if len(a.Actions) > 0 {
			s.add(a.Type+":"+a.Name, a.Actions...)
		}
	}
	return s
}

// life is how long the token has to live: by the service's clock where it
// gave the time (served), else counted from when the token was made, else by
// our clock.
func (c claims) life(served, now time.Time) (time.Duration, bool) {
	if c.Exp <= 0 {
		return 0, false
	}
	from := c.Iat
	if at := float64(served.Unix()); !served.IsZero() && at < c.Exp && at > c.Iat {
		from = at
	} else if from <= 0 {
		from = float64(now.Unix())
	}
	return time.Duration(min(max(c.Exp-from, 0), maxTokenLife.Seconds()) * float64(time.Second)), true
}

// fetchToken asks r for a token that allows want, need before all.
func (t *Transport) fetchToken(ctx context.Context, h *host, r realm, service string, need, want scopes, cred Credential) (*token, error) {
	req, err := tokenRequest(ctx, r, service, want.list(need), cred)
	if err != nil {
		return nil, err
	}
	g := open
	switch {
	case !r.foreign || !h.public():
	case r.trusted:
		g = guardLocal
	default:
		g = guardPrivate
	}
	resp, err := t.plain(req, Token, g)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a token: %w", Text(r.url.Host, 100), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode/100 == 3 {
			return nil, final("the token service at %s redirects; tokens are not asked for elsewhere", Text(r.url.Host, 100))
		}
		resp.Request = note{secrets: cred.secrets()}.attach(resp.Request)
		return nil, ResponseError(resp)
	}
	tok, err := readToken(resp, want, time.Now())
	if err != nil {
		return nil, err
	}
	t.log.Debug("token", "host", h.url.Host, "realm", r.url.Host, "scopes", len(want), "for", time.Until(tok.expires).Round(time.Second))
	return tok, nil
}

// withheld tells why credentials were not used.
func withheld(registry, realm string) string {
	return fmt.Sprintf("the login of %s was not shown to its token service %s, another host; --auth-realm %s allows it",
		Text(registry, 100), Text(realm, 100), Text(realm, 100))
}
