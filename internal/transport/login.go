package transport

import (
	"context"
	"fmt"
	"net/http"
)

// authorize gives the Authorization that c is sent with, "" for none.
//
// With a login, the registry is first asked how it wants to be signed in at;
// without one the request goes as it is, since much may be read like that; the
// first of them alone, for its answer tells the others. Once a registry has named its token service, a token is asked for before each
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
	if !asked && cred.IsZero() && !hasBody(c.req) {
		if c.scout, err = c.host.scout(ctx); err != nil {
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
	need, also, origin := neededScopes(c.req, c.kind, c.repo)
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
	c.need = need.with(c.extra)
	c.session = t.session(c.host, cred)
	tok, fresh, err := c.session.token(ctx, want{
		need: c.need, also: also, origin: origin,
		ahead: func(ctx context.Context, push bool) []*expectation {
			return c.host.expected.of(ctx, push, c.cred, func(ctx context.Context, repo string) (Credential, error) {
				return t.credential(ctx, c.req.URL.Host, repo)
			})
		},
		taken: c.host.expected.forget,
		fetch: func(ctx context.Context, need, all scopes) (*token, error) {
			return t.fetchToken(ctx, c.host, r, offer.service, need, all, cred)
		},
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
		c.session.refused(tok, c.need)
	}
	// A token for several repositories that doesn't say what it grants may be good
	// for another's request only: with it the first refusal isn't the last.
	wide := tok != nil && tok.wide && tok.granted == nil && !c.narrowed
	if c.renewed && !wide || offer == nil || !c.replayable() {
		return false
	}
	c.narrowed = c.narrowed || wide
	if offer.scheme == "basic" {
		c.renewed = true
		return !c.basic && c.cred.basic() != ""
	}
	if len(offer.scope) > maxScopes {
		return false
	}
	need, _, _ := neededScopes(c.req, c.kind, c.repo)
	need = need.with(offer.scope)
	if tok != nil && c.fresh && tok.lacks(need) && tok.asked.cover(need) {
		return false // the service has just said no
	}
	c.renewed, c.extra = true, offer.scope
	return true
}

// mayAskAlone takes note of a 403 and reports whether the request is worth
// sending once more, with a token for nothing else: one of several repositories
// that doesn't say what it grants may lack just this one.
func (c *call) mayAskAlone() bool {
	if c.tok == nil || c.renewed || !c.replayable() || !c.session.narrow(c.tok, c.need) {
		return false
	}
	c.renewed = true
	return true
}

func (t *Transport) withHint(c *call, err error) error {
	if c.hint == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, c.hint)
}
