package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A StatusError is an answer that is not what was asked for. It matches
// [oci.ErrNotFound] for 404 and 410, [oci.ErrDenied] for 401 and 403. Its texts
// are fit for messages: one line, escaped, cut, without secrets.
type StatusError struct {
	Status  int
	Code    string // of the distribution specification ("MANIFEST_UNKNOWN"), or Quay's error type
	Message string // what the server said
	Hint    string // what the user may do about it; often ""
	Method  string
	Host    string // that answered, which after a redirect isn't the one that was asked
	Path    string // without the query
}

func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s answered %d", e.Host, e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	} else if s := http.StatusText(e.Status); s != "" {
		b.WriteString(" " + s)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Is tells the kind of failure.
func (e *StatusError) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusGone:
		return target == oci.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == oci.ErrDenied
	}
	return false
}

// ResponseError makes a [*StatusError] of an answer, reading at most 64 KiB of
// its body. It knows the errors of the distribution specification, all shapes
// of Quay's API, and takes a few words of anything else. Closing the body
// stays the caller's part.
func ResponseError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	var n note
	if req := resp.Request; req != nil {
		e.Method, e.Host, e.Path = req.Method, Text(req.URL.Host, 100), Text(req.URL.Path, 300)
		n, _ = req.Context().Value(noteKey{}).(note)
		for _, h := range req.Header.Values("Authorization") {
			_, secret, _ := strings.Cut(h, " ")
			n.secrets = append(n.secrets, secret)
		}
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, drainSize)) // half a text is better than none
	text := mask(string(raw), n.secrets)
	e.Code, e.Message = readError([]byte(text))
	if e.Message == "" && e.Code == "" {
		e.Message = words(text)
	}
	if e.Message == fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)) { // nginx' title
		e.Message = ""
	}
	// Masked once more: JSON may have written a secret in another way.
	e.Code, e.Message = oneLine(e.Code, 60), oneLine(mask(e.Message, n.secrets), 400)
	e.Hint = n.hint
	return e
}

// readError reads the JSON of an error, by its keys and not by its content
// type: Quay sends some as text/html.
func readError(raw []byte) (code, message string) {
	var shape struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
		Detail       json.RawMessage `json:"detail"`
		ErrorMessage json.RawMessage `json:"error_message"`
		ErrorType    json.RawMessage `json:"error_type"`
		Message      json.RawMessage `json:"message"`
		Error        json.RawMessage `json:"error"`
		Description  json.RawMessage `json:"error_description"` // OAuth 2
	}
	if json.Unmarshal(raw, &shape) != nil {
		return "", ""
	}
	if len(shape.Errors) > 0 {
		var parts []string
		for _, e := range shape.Errors[:min(3, len(shape.Errors))] {
			part := e.Message
			if d := phrase(e.Detail); d != "" && d != part {
				part = strings.TrimPrefix(part+": "+d, ": ")
			}
			parts = append(parts, part)
		}
		return shape.Errors[0].Code, strings.Join(parts, "; ")
	}
	code = phrase(shape.ErrorType)
	for _, m := range []json.RawMessage{shape.ErrorMessage, shape.Detail, shape.Message, shape.Description, shape.Error} {
		if s := phrase(m); s != "" {
			return code, s
		}
	}
	return code, ""
}

// phrase reads a string, the "message" of an object, or the values of a flat
// one: {"limit": "Max 100."} is what Quay says of a parameter.
func phrase(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) == nil {
		return s
	}
	var object map[string]any
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	if m, ok := object["message"].(string); ok {
		return m
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if v, ok := object[key].(string); ok {
			parts = append(parts, key+": "+v)
		}
	}
	return strings.Join(parts, "; ")
}

var (
	title  = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	script = regexp.MustCompile(`(?is)<(script|style)\b.*?</(script|style)>`)
	tag    = regexp.MustCompile(`(?s)<[^>]*>`)
)

// words gives a few words of a page that is no JSON.
func words(s string) string {
	if m := title.FindStringSubmatch(s); m != nil {
		return oneLine(m[1], 120)
	}
	return oneLine(tag.ReplaceAllString(script.ReplaceAllString(s, " "), " "), 160)
}

// A note travels with the request of an answer, for [ResponseError].
type note struct {
	secrets []string // to be masked, should the server repeat them
	hint    string
}

type noteKey struct{}

func (n note) attach(req *http.Request) *http.Request {
	return req.WithContext(context.WithValue(req.Context(), noteKey{}, n))
}
