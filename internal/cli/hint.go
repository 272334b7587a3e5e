package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// hints give what the user can do about err, or about the errors that it joins,
// where they don't say so themselves.
func hints(err error) []string {
	var out []string
	answer, isAnswer := errors.AsType[*transport.StatusError](err)
	if isAnswer && errors.Is(err, oci.ErrDenied) { // by a registry: the API's refusals say themselves what they want
		out = append(out, "to sign in: quaymaster login HOST, --src-creds or --dest-creds")
	}
	api, isAPI := errors.AsType[*quay.StatusError](err)
	if isAnswer && wantsTLS(answer.Status, answer.Message) || isAPI && wantsTLS(api.Status, api.Message) {
		out = append(out, "the registry speaks TLS: leave --plain-http away")
	}
	return out
}

// wantsTLS reports whether an answer is what servers with TLS say, Go's and
// nginx', of a request without.
func wantsTLS(status int, message string) bool {
	text := strings.ToLower(message)
	return status == http.StatusBadRequest && strings.Contains(text, "http request") && strings.Contains(text, "https")
}

// hinted adds to err what the user can do.
func hinted(err error) error {
	if h := hints(err); len(h) > 0 {
		return fmt.Errorf("%w; %s", err, strings.Join(h, "; "))
	}
	return err
}

// tellHints says what the user can do about the failures that err joins.
func (a *app) tellHints(err error) {
	for _, h := range hints(err) {
		a.sayf("%s%s", strings.ToUpper(h[:1]), h[1:])
	}
}
