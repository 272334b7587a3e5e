package quaytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
)

// An answer is what an API call ends with.
type answer struct {
	status int
	body   any // as JSON
	header map[string]string
	text   bool // the JSON is sent as text/html, as util.http.abort does
	html   bool // an HTML page in place of body
	empty  bool // no body
}

func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

func noContent() answer { return answer{status: http.StatusNoContent, empty: true} }

// message is the shape of Flask-RESTful's errors.
func message(status int, m any) answer {
	return answer{status: status, body: map[string]any{"message": m}}
}

// abort is the shape of util.http.abort.
func abort(status int, text string) answer {
	return answer{status: status, body: map[string]any{"error": text}, text: true}
}

// apiError is the shape of ApiException.
func (c *apiCall) apiError(status int, typ, detail string) answer {
	return answer{status: status, body: map[string]any{
		"detail": detail, "error_message": detail, "error_type": typ, "title": typ, "status": status,
		"type": baseURL(c.r) + "/api/v1/error/" + typ,
	}}
}

func (c *apiCall) invalid(detail string) answer {
	return c.apiError(http.StatusBadRequest, "invalid_request", detail)
}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for k, v := range a.header {
		h.Set(k, v)
	}
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "AUTHORIZATION, CONTENT-TYPE")
	if a.html {
		writeHTML(w, a.status)
		return
	}
	if a.empty {
		w.WriteHeader(a.status)
		return
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf) // ends with a newline, as Flask-RESTful does
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a.body); err != nil {
		panic(err) // of our own types
	}
	h.Set("Content-Type", "application/json")
	if a.text {
		h.Set("Content-Type", "text/html; charset=utf-8")
		buf.Truncate(buf.Len() - 1)
	}
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(buf.Bytes()) // a client that went away misses nothing
	}
}

// body reads a JSON object. It checks the required keys and that keys with a
// type in kinds ("string", "number?", "string?", …; "?" allows null) have it.
func (c *apiCall) body(required []string, kinds map[string]string) (map[string]any, answer, bool) {
	mt, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if mt != "application/json" {
		return nil, message(http.StatusUnsupportedMediaType, "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."), false
	}
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, 1<<20))
	var v any
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		return nil, message(http.StatusBadRequest, "The browser (or proxy) sent a request that this server could not understand."), false
	}
	if v == nil {
		return nil, c.invalid("Missing JSON body"), false
	}
	m, isMap := v.(map[string]any)
	if !isMap {
		return nil, c.invalid(fmt.Sprintf("%v is not of type 'object'", v)), false
	}
	for _, k := range required {
		if _, there := m[k]; !there {
			return nil, c.invalid(fmt.Sprintf("'%s' is a required property", k)), false
		}
	}
	for k, kind := range kinds {
		if v, there := m[k]; there && !isKind(v, kind) {
			return nil, c.invalid(fmt.Sprintf("%#v is not of type '%s'\n\nFailed validating 'type' in schema['properties']['%s']", v, kind, k)), false
		}
	}
	return m, answer{}, true
}

func isKind(v any, kind string) bool {
	if n := len(kind) - 1; kind[n] == '?' {
		if v == nil {
			return true
		}
		kind = kind[:n]
	}
	switch v.(type) {
	case string:
		return kind == "string"
	case float64:
		return kind == "number"
	case bool:
		return kind == "boolean"
	}
	return false
}

var errorTypes = map[string]string{
	"invalid_token":            "The OAuth token could not be validated",
	"insufficient_scope":       "The token or user lacks a permission that this needs",
	"not_found":                "The resource was not found",
	"invalid_request":          "The request was malformed",
	"fresh_login_required":     "This needs a fresh login",
	"exceeds_license":          "The plan doesn't allow this",
	"tag_immutable":            "The tag is immutable",
	"downstream_issue":         "An issue occurred in a downstream service",
	"external_service_timeout": "An external service timed out",
	"expired_token":            "The token has expired",
}

func (c *apiCall) describeError() answer {
	text, known := errorTypes[c.args[0]]
	if !known {
		return c.notFound()
	}
	return ok(map[string]any{"type": baseURL(c.r) + "/api/v1/error/" + c.args[0], "title": c.args[0], "description": text})
}

func itoa(n int) string { return strconv.Itoa(n) }
