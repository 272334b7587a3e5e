package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// answered makes the error of an answer that isn't what was asked for, and
// closes it.
func answered(resp *http.Response) error {
	defer resp.Body.Close()
	return transport.ResponseError(resp)
}

// status gives the answer that err comes from, nil if there was none.
func status(err error) *transport.StatusError {
	e, _ := errors.AsType[*transport.StatusError](err)
	return e
}

// is reports whether err comes from an answer of one of codes.
func is(err error, codes ...int) bool {
	e := status(err)
	if e == nil {
		return false
	}
	for _, c := range codes {
		if e.Status == c {
			return true
		}
	}
	return false
}

// hides reports whether err is r's registry saying that the caller may not see
// r; a token service that refuses a login is another matter.
func (r *repo) hides(err error) bool {
	return errors.Is(err, oci.ErrDenied) && status(err) != nil && strings.HasPrefix(status(err).Path, "/v2/"+r.path+"/")
}

// retryable reports whether another attempt could fare better than err.
func retryable(err error) bool { return transport.Retryable(nil, err) }

// pause waits before the next attempt, the first one being 1. After a first
// broken connection it doesn't: that is an accident, an answer is a state.
func pause(ctx context.Context, attempt int, err error) error {
	if attempt == 1 && status(err) == nil {
		return ctx.Err()
	}
	t := time.NewTimer(backoff(attempt - 1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// backoff is a variable for tests, which don't wait.
var backoff = transport.Backoff
