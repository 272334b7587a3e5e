package transport

import (
	"context"
	"fmt"
	"net/http"
)

// authorize gives the Authorization that c is sent with, "" for none.
//
// With a login, the registry is first asked how it wants to be signed in at;
// without one the request goes as it is, since much may be read like that. Once
// a registry has named its token service, a token is asked for before each
// request that none is there for, which saves a 401 a repository; except where
// nobody is signed in and repositories were seen to be readable without.
func (t *Transport) authorize(c *call) (string, error) {
	if !c.signIn {
		return "", nil
	}
	ctx := c.req.Context()
	cred, err := t.credential(ctx, c.req.URL.Host, c.repo)
	if err != nil {
		return "", fmt.Errorf("login of %s: %w", c.req.URL.Host, err)
	}
	c.cred, c.tok, c.basic = cred, nil, false
	if cred.RegistryToken != "" {
		return "Bearer " + cred.RegistryToken, nil
	}
	offer, asked := c.host.challenge()
	if !asked && !cred.IsZero() {
		if err := t.discover(ctx, c.host); err != nil {
			return "", err
		}
		offer, _ = c.host.challenge()
	}
	switch {
	case offer == nil:
		return "", nil
	case offer.scheme == "basic":
		c.basic = cred.basic() != ""
		return cred.basic(), nil
	}
	need, ask := neededScopes(c.req, c.kind, c.repo)
	if cred.IsZero() && !c.renewed && (c.host.isReadable() || len(need) == 0) {
		return "", nil
	}
	r, err := judgeRealm(c.host.url, offer.realm, t.opt.AuthRealms)
	if err != nil {
		return "", err
	}
	if !r.trusted && !cred.IsZero() {
		c.hint = withheld(c.host.url.Host, r.url.Host)
		t.log.Debug(c.hint)
		cred = Credential{}
	}
	need, ask = need.with(c.extra), ask.with(c.extra)
	tok, fresh, err := t.session(c.host, cred).token(ctx, need, ask, func(ctx context.Context, want scopes) (*token, error) {
		return t.fetchToken(ctx, c.host, r, offer.service, want, cred)
	})
	if err != nil {
		return "", t.withHint(c, err)
	}
	c.tok, c.fresh = tok, c.fresh || fresh
	return "Bearer " + tok.value, nil
}

// mayRenew takes note of a 401 and reports whether the request is worth
// sending once more: with the first login that is known of, or a fresh token.
func (t *Transport) mayRenew(c *call, resp *http.Response) bool {
	offer := chooseChallenge(resp.Header)
	c.host.challenged(offer)
	if c.cred.RegistryToken != "" {
		return false
	}
	tok := c.tok
	if tok != nil {
		t.drop(c, tok)
	}
	if c.renewed || offer == nil || !c.replayable() {
		return false
	}
	if offer.scheme == "basic" {
		c.renewed = true
		return !c.basic && c.cred.basic() != ""
	}
	if len(offer.scope) > maxScopes {
		return false
	}
	need, _ := neededScopes(c.req, c.kind, c.repo)
	need = need.with(offer.scope)
	if tok != nil && c.fresh && tok.lacks(need) && tok.asked.cover(need) {
		return false // the service has just said no
	}
	c.renewed, c.extra = true, offer.scope
	return true
}

// drop forgets tok, whichever session of the host it is in.
func (t *Transport) drop(c *call, tok *token) {
	t.session(c.host, c.cred).drop(tok)
	t.session(c.host, Credential{}).drop(tok)
}

func (t *Transport) withHint(c *call, err error) error {
	if c.hint == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, c.hint)
}
