package transport

import (
	"net/url"
	"strings"
)

// A Kind says what a request is for. Limits, retries and [Stats] go by it.
type Kind string

// The kinds of requests, by path.
const (
	Token    Kind = "token"    // a token service
	API      Kind = "api"      // Quay's REST API: /api/...
	Manifest Kind = "manifest" // /v2/REPOSITORY/manifests/...
	Blob     Kind = "blob"     // /v2/REPOSITORY/blobs/DIGEST, and where it redirects to
	Upload   Kind = "upload"   // /v2/REPOSITORY/blobs/uploads/...
	Other    Kind = "other"    // tags, catalog, referrers, /v2/ itself, everything else
)

// classify tells the kind of a request and the repository that its path names,
// "" if none.
func classify(u *url.URL) (Kind, string) {
	if strings.HasPrefix(u.Path, "/api/") {
		return API, ""
	}
	path, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok {
		return Other, ""
	}
	// Names may hold any of these words too, so they are looked for from the end.
	if i := strings.LastIndex(path, "/blobs/uploads"); i > 0 {
		if rest := path[i+len("/blobs/uploads"):]; rest == "" || rest[0] == '/' {
			return Upload, path[:i]
		}
	}
	head, last := cutLast(path)
	repo, word := cutLast(head)
	switch {
	case repo == "" || last == "":
		return Other, ""
	case word == "manifests":
		return Manifest, repo
	case word == "blobs":
		return Blob, repo
	case word == "tags" || word == "referrers":
		return Other, repo
	}
	return Other, ""
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}
