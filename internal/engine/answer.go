package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/quaymaster/quaymaster/oci"
)

// Limits of what a daemon may say.
const (
	maxJSON  = 16 << 20 // of an answer: an image's inspection, with its config
	maxLine  = 1 << 20  // of a progress stream
	maxError = 64 << 10
)

// A StatusError is an answer that says no.
type StatusError struct {
	Status  int    // HTTP's
	Message string // the daemon's words, at most 1000 bytes, without control characters
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("status %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// Is makes statuses match the kinds of failure.
func (e *StatusError) Is(target error) bool {
	return target == oci.ErrNotFound && e.Status == http.StatusNotFound ||
		target == oci.ErrDenied && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

func statusError(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // half of its words is better than none
	var said struct{ Message, Cause string }
	text := string(raw)
	if json.Unmarshal(raw, &said) == nil && said.Message != "" {
		text = said.Message
	}
	return &StatusError{resp.StatusCode, clean(text)}
}

// clean makes what a daemon says fit for a terminal.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), 1000)], ""))
}

// answerTime is how long a daemon may take to say what it knows. A variable for
// tests.
var answerTime = 2 * time.Minute

// JSON gets path and reads the answer, at most 16 MiB and within two minutes, into
// into.
func (c *Client) JSON(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, c.wrap(fmt.Errorf("no answer to %s within %v; is the daemon stuck?", path, answerTime)))
	defer cancel()
	resp, err := c.Do(ctx, Call{Path: path, Query: query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return c.wrap(err)
	case len(raw) > maxJSON:
		return c.wrap(fmt.Errorf("answer to %s: %w", path, oci.ErrTooLarge))
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return c.wrap(fmt.Errorf("answer to %s: %w: %w", path, oci.ErrInvalid, err))
	}
	return nil
}

// Send sends a call whose answer's body nobody needs.
func (c *Client) Send(ctx context.Context, call Call) error {
	resp, err := c.Do(ctx, call)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxError)) // so that the connection can be used again
	return resp.Body.Close()
}

// A Message is one line of a progress stream.
type Message struct {
	Status string          `json:"status"` // "Pushed"
	Stream string          `json:"stream"` // "Loaded image: …"
	ID     string          `json:"id"`     // of a layer, shortened
	Aux    json.RawMessage `json:"aux"`    // what a step results in
	Error  string          `json:"error"`
	Detail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// Progress sends a call that answers with a progress stream, and reads it to its
// end. each, which may be nil, is called for each line. An error that stands in
// the stream counts, although the answer's status was 200, and so does a line
// that isn't JSON or longer than 1 MiB.
func (c *Client) Progress(ctx context.Context, call Call, each func(Message)) error {
	resp, err := c.Do(ctx, call)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := ReadProgress(resp.Body, each); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.wrap(err)
	}
	return nil
}

// ReadProgress reads a progress stream to its end. See [Client.Progress].
func ReadProgress(r io.Reader, each func(Message)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var failed error // the first; what follows it may be more of the same
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var m Message
		if err := json.Unmarshal(line, &m); err != nil {
			return cmp.Or(failed, fmt.Errorf("progress: %w: %w", oci.ErrInvalid, err))
		}
		text := m.Error
		if text == "" && m.Detail != nil {
			text = m.Detail.Message
			if text == "" {
				text = "an error without words"
			}
		}
		if text != "" && failed == nil {
			failed = errors.New(clean(text))
		}
		if each != nil {
			each(m)
		}
	}
	if err := lines.Err(); err != nil && failed == nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line of its progress: %w", oci.ErrTooLarge)
		}
		return err
	}
	return failed
}

// EscapeRef escapes an image's name for a path. Its slashes stay: daemons take
// them as they are.
func EscapeRef(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
