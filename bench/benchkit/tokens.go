package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// tokens are a token service's: opaque to the client, and each says what it
// allows, so that nothing has to be kept.
type tokens struct {
	realm string
	most  int // repositories that one may hold, beside the origin of a mount; 0: any number
}

// grant answers with a token for the scopes that r asks for.
func (t *tokens) grant(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var scopes []string
	for _, s := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(s)...)
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(strings.Join(t.held(scopes), " ")))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // else the client is gone
		"token": token, "access_token": token, "expires_in": 300, "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// held gives the scopes that one token may hold: the first ones, and one to
// pull from where another may be pushed, since a mount needs both.
func (t *tokens) held(scopes []string) []string {
	if t.most == 0 {
		return scopes
	}
	push := func(s string) bool { return strings.Contains(s, "push") }
	writes := slices.ContainsFunc(scopes, push)
	left := map[bool]int{true: t.most, false: t.most}
	if writes {
		left[false] = 1
	}
	var held []string
	for _, s := range scopes {
		if left[push(s)]--; left[push(s)] >= 0 {
			held = append(held, s)
		}
	}
	return held
}

// allow reports whether the token of r is enough. As at distribution, a mount
// wants the right to pull from its origin.
func (t *tokens) allow(r *http.Request, kind, repo string) bool {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if repo == "" {
		return token != ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return false
	}
	scopes := strings.Fields(string(raw))
	granted := func(repo, action string) bool {
		return slices.ContainsFunc(scopes, func(s string) bool {
			p := strings.Split(s, ":")
			return len(p) == 3 && p[1] == repo && (strings.Contains(p[2], action) || p[2] == "*")
		})
	}
	from := r.URL.Query().Get("from")
	return granted(repo, action(r)) && (kind != "mount" || from == "" || granted(from, "pull"))
}

// action is the right that r needs.
func action(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return "pull"
	}
	return "push"
}

// challenge refuses r, and says what to ask for.
func (t *tokens) challenge(w http.ResponseWriter, r *http.Request, kind, repo string) {
	c := fmt.Sprintf(`Bearer realm="%s",service="bench"`, t.realm)
	if repo != "" {
		scope := "repository:" + repo + ":pull"
		if action(r) == "push" {
			scope += ",push"
		}
		if from := r.URL.Query().Get("from"); kind == "mount" && from != "" {
			scope += " repository:" + from + ":pull"
		}
		c += fmt.Sprintf(`,scope="%s"`, scope)
	}
	w.Header().Set("Www-Authenticate", c)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}
