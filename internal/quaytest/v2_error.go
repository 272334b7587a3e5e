package quaytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"cuelabs.dev/go/oci/ociregistry"
)

// A v2Error is an answer in the shape of the distribution specification, or
// with plain set in that of util.http.abort.
type v2Error struct {
	status  int
	code    string
	message string
	detail  map[string]any
	plain   string
	header  map[string]string
}

func unauthorizedError(text string) *v2Error {
	return &v2Error{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: text}
}

func (e *v2Error) Error() string { return e.code + ": " + e.message }

func (e *v2Error) write(w http.ResponseWriter) {
	for k, v := range e.header {
		w.Header().Set(k, v)
	}
	if e.plain != "" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(e.status)
		fmt.Fprintf(w, `{"error": %q}`, e.plain)
		return
	}
	detail := e.detail
	if detail == nil {
		detail = map[string]any{}
	}
	writeJSON(w, e.status, map[string]any{"errors": []any{map[string]any{"code": e.code, "message": e.message, "detail": detail}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	writeJSONAs(w, "application/json", status, v)
}

func writeJSONAs(w http.ResponseWriter, mediaType string, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a client that went away misses nothing
}

// writeXML answers as S3 does.
func writeXML(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, text)
}

// The errors of the registry.
func nameUnknown() *v2Error {
	return &v2Error{status: http.StatusNotFound, code: "NAME_UNKNOWN", message: "repository not found"}
}

func manifestUnknown() *v2Error {
	return &v2Error{status: http.StatusNotFound, code: "MANIFEST_UNKNOWN", message: "manifest unknown"}
}

func blobUnknown() *v2Error {
	return &v2Error{status: http.StatusNotFound, code: "BLOB_UNKNOWN", message: "blob unknown to registry"}
}

func uploadInvalid() *v2Error {
	return &v2Error{status: http.StatusBadRequest, code: "BLOB_UPLOAD_INVALID", message: "blob upload invalid"}
}

func uploadUnknown() *v2Error {
	return &v2Error{status: http.StatusNotFound, code: "BLOB_UPLOAD_UNKNOWN", message: "blob upload unknown to registry"}
}

func manifestInvalid(detail string) *v2Error {
	e := &v2Error{status: http.StatusBadRequest, code: "MANIFEST_INVALID", message: "manifest invalid"}
	if detail != "" {
		e.detail = map[string]any{"message": detail}
	}
	return e
}

func unsupported() *v2Error {
	return &v2Error{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "The operation is unsupported."}
}

// writeStoreError turns what ociserver or the store says into Quay's answer.
func writeStoreError(w http.ResponseWriter, _ *http.Request, err error) {
	var httpErr ociregistry.HTTPError
	e := &v2Error{status: http.StatusInternalServerError, code: "UNKNOWN", message: "an error occurred"}
	switch {
	case errors.Is(err, ociregistry.ErrBlobUnknown):
		e = blobUnknown()
	case errors.Is(err, ociregistry.ErrNameUnknown): // nothing was pushed yet
		e = blobUnknown()
	case errors.Is(err, ociregistry.ErrManifestUnknown):
		e = manifestUnknown()
	case errors.Is(err, ociregistry.ErrDigestInvalid):
		e = uploadInvalid()
	case errors.Is(err, ociregistry.ErrBlobUploadUnknown):
		e = uploadUnknown()
	case errors.Is(err, ociregistry.ErrRangeInvalid):
		writeXML(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
		return
	case errors.As(err, &httpErr):
		e.status = httpErr.StatusCode()
	}
	e.write(w)
}
