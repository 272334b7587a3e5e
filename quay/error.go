package quay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/quaymaster/quaymaster/oci"
)

// maxErrorBody bounds what is read of the body of an error, in bytes.
const maxErrorBody = 64 << 10

// maxMessage bounds the server's own words in an error text, in bytes.
const maxMessage = 300

// A StatusError is an answer of Quay that is no success. It matches
// [oci.ErrNotFound] for 404, and [oci.ErrDenied] for 401 and 403.
type StatusError struct {
	Request string // method and path, without query
	Status  int    // of HTTP
	Type    string // Quay's error_type, as "insufficient_scope"; often ""
	Message string // the server's words, one line, "" if it had none
	method  string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s: %d %s", e.Request, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is reports whether e is of the kind that target stands for.
func (e *StatusError) Is(target error) bool {
	switch target {
	case oci.ErrNotFound:
		return e.Status == http.StatusNotFound
	case oci.ErrDenied:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// NotVisible reports whether err is Quay's answer that a repository is private
// or isn't there: 401, 403 or 404 of a read. Quay checks the permission before
// the existence, so only 404 proves absence, and only administrators get it.
func NotVisible(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.method == http.MethodGet && (errors.Is(e, oci.ErrDenied) || errors.Is(e, oci.ErrNotFound))
}

// statusError reads the error that resp is, and its body to the end. The token
// is taken out, should the server say it back.
func (c *Client) statusError(r request, resp *http.Response) *StatusError {
	// A broken body leaves the status, which says enough.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e := &StatusError{Request: r.String(), Status: resp.StatusCode, method: resp.Request.Method}
	if token := strings.TrimSpace(c.Token); token != "" {
		body = bytes.ReplaceAll(body, []byte(token), []byte("***"))
	}
	e.Type, e.Message = errorText(body)
	return e
}

// errorText finds the type and the words in the body of an error. Quay has four
// shapes: its own with detail and error_type; {"message": S}, or
// {"message": {PARAMETER: S}}; {"error": S}, served as HTML; and pages of HTML.
func errorText(body []byte) (kind, text string) {
	var shape struct {
		Type    words `json:"error_type"`
		Detail  words `json:"detail"`
		Long    words `json:"error_message"`
		Message words `json:"message"`
		Error   words `json:"error"`
	}
	if err := json.Unmarshal(body, &shape); err == nil {
		for _, s := range []words{shape.Detail, shape.Long, shape.Message, shape.Error} {
			if s != "" {
				return oneLine(string(shape.Type)), oneLine(string(s))
			}
		}
		return oneLine(string(shape.Type)), ""
	}
	if s := strings.TrimSpace(string(body)); !strings.HasPrefix(s, "<") {
		return "", oneLine(s)
	}
	return "", ""
}

// words reads a string, or an object of strings; anything else is "".
type words string

func (t *words) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = words(s)
		return nil
	}
	var m map[string]any
	if json.Unmarshal(b, &m) == nil {
		var parts []string
		for k, v := range m {
			parts = append(parts, fmt.Sprintf("%s: %v", k, v))
		}
		slices.Sort(parts)
		*t = words(strings.Join(parts, "; "))
	}
	return nil
}

// oneLine makes a server's words fit for a terminal: no control bytes, one
// line, bounded.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// incomplete marks err as the end of a listing that had begun.
func incomplete(err error, page int) error {
	if page == 1 {
		return err
	}
	return fmt.Errorf("%w: page %d: %w", oci.ErrIncomplete, page, err)
}
