package quay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/quaymaster/quaymaster/oci"
)

// VerifyToken asks Quay whether it knows c.Token, whatever its scopes are. It
// returns an error matching [oci.ErrDenied] if it doesn't; other errors say
// nothing of the token.
//
// Source: GET /api/v1/repository?starred=true, which a stranger may not ask:
// it is 400 without a user. Every other read answers a token that is unknown,
// expired or a robot's with 200 and what a stranger sees.
func (c *Client) VerifyToken(ctx context.Context) error {
	_, err := c.do(ctx, request{path: "/repository", query: url.Values{"starred": {"true"}}})
	if e, ok := errors.AsType[*StatusError](err); ok && (e.Status == http.StatusBadRequest || errors.Is(e, oci.ErrDenied)) {
		// The answer itself says nothing ("a request that this server could not
		// understand"), so it is left out.
		err = fmt.Errorf("%w: it is not known there; take the access token of an OAuth application (Organisation, Applications, Generate Token): "+
			"a robot account's token opens only the registry", oci.ErrDenied)
	}
	return oci.Wrap(err, "verify API token at", c.host(), oci.Descriptor{})
}
