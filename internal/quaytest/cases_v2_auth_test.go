package quaytest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// v2Error checks an answer in the shape of the distribution specification.
func v2Error(t *testing.T, r reply, status int, code string) {
	t.Helper()
	want(t, "status", r.status, status)
	if !strings.HasPrefix(r.body, "{") {
		t.Errorf("body: got %q, want an error %s", r.body, code)
		return
	}
	want(t, "code", at(r.json(t), "errors", 0, "code"), any(code))
}

// access reads what a V2 token grants.
func access(t *testing.T, token string) []any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	var body any
	check(t, json.Unmarshal(raw, &body))
	return list(body, "access")
}

// actions reads what a V2 token grants on its only repository.
func actions(t *testing.T, token string) []any {
	t.Helper()
	return list(access(t, token), 0, "actions")
}

func (e *env) auth(t *testing.T, scope, authorization string) reply {
	t.Helper()
	return e.get(t, "/v2/auth?service="+queryEscape(e.host)+"&scope="+queryEscape(scope), authorization)
}

var v2AuthCases = []contractCase{
	{n: 39, name: "ping", run: func(t *testing.T, e *env) {
		r := e.get(t, "/v2/", "")
		want(t, "status", r.status, 401)
		want(t, "body", strings.TrimSpace(r.body), "true")
		want(t, "WWW-Authenticate", r.header.Get("WWW-Authenticate"), fmt.Sprintf(`Bearer realm="%s/v2/auth",service="%s"`, e.base, e.host))
		want(t, "Docker-Distribution-API-Version", r.header.Get("Docker-Distribution-API-Version"), "registry/2.0")
		r = e.get(t, "/v2/", e.token(t, "", "", "repository:"+e.repo("app")+":pull"))
		want(t, "status with an anonymous token", r.status, 200)
	}},
	{n: 40, name: "tokens", run: func(t *testing.T, e *env) {
		scope := "repository:" + e.repo("priv") + ":pull"
		r := e.auth(t, scope, "")
		want(t, "status for nobody", r.status, 200)
		body := r.json(t).(map[string]any)
		want(t, "keys", len(body), 1)
		want(t, "actions for nobody", actions(t, body["token"].(string)), nil)
		r = e.auth(t, scope, basic(e.robot, e.secret))
		want(t, "status for the robot", r.status, 200)
		want(t, "actions for the robot", actions(t, at(r.json(t), "token").(string)), []any{"pull"})
		v2Error(t, e.auth(t, scope, basic(e.robot, "wrong")), 401, "UNAUTHORIZED")
	}},
	{n: 41, name: "scopes that don't exist", run: func(t *testing.T, e *env) {
		app := "repository:" + e.repo("app")
		for _, scope := range []string{"registry:catalog:*", app + ":pull " + app + ":pull", app + ":delete"} {
			v2Error(t, e.auth(t, scope, basic(e.robot, e.secret)), 400, "INVALID_REQUEST")
		}
	}},
	{n: 42, name: "asking for push makes the repository", run: func(t *testing.T, e *env) {
		name := fmt.Sprintf("%sscratch-%d", e.prefix, time.Now().UnixNano())
		r := e.auth(t, "repository:"+e.org+"/"+name+":push", basic(e.user, e.password))
		want(t, "status", r.status, 200)
		if got := actions(t, at(r.json(t), "token").(string)); len(got) == 0 || got[0] != "push" {
			t.Errorf("actions: got %v, want push", got)
		}
		t.Cleanup(func() { e.remove(t, e.org+"/"+name) })
		r = e.get(t, api(e.org+"/"+name), "Bearer "+e.admin)
		want(t, "status of the repository", r.status, 200)
		want(t, "is_public", at(r.json(t), "is_public"), any(false))
	}},
	{n: 43, name: "a private repository", run: func(t *testing.T, e *env) {
		path := "/v2/" + e.repo("priv") + "/manifests/v1"
		challenge := fmt.Sprintf(`Bearer realm="%s/v2/auth",service="%s",scope="repository:%s:pull"`, e.base, e.host, e.repo("priv"))
		r := e.get(t, path, "")
		v2Error(t, r, 401, "UNAUTHORIZED")
		want(t, "WWW-Authenticate", r.header.Get("WWW-Authenticate"), challenge)
		v2Error(t, e.get(t, path, e.token(t, "", "", "repository:"+e.repo("priv")+":pull")), 401, "UNAUTHORIZED")
		r = e.get(t, path, basic(e.robot, e.secret))
		want(t, "status with Basic", r.status, 401)
		want(t, "error with Basic", at(r.json(t), "error"), any("Invalid bearer token format"))
		if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/html") {
			t.Errorf("Content-Type: got %q, want text/html", ct)
		}
		want(t, "WWW-Authenticate with Basic", r.header.Get("WWW-Authenticate"), challenge)
		want(t, "status for the robot", e.get(t, path, e.token(t, e.robot, e.secret, "repository:"+e.repo("priv")+":pull"),
			"Accept: "+image1.Desc.MediaType).status, 200)
	}},
	{n: 54, name: "a V2 token on v1", run: func(t *testing.T, e *env) {
		r := e.get(t, repositories+"?public=true&namespace="+e.org, e.token(t, "", "", "repository:"+e.repo("app")+":pull"))
		want(t, "status", r.status, 401)
		want(t, "has error", has(r.json(t), "error"), true)
	}},
	{n: 56, name: "catalog", run: func(t *testing.T, e *env) {
		r := e.get(t, "/v2/_catalog", "")
		want(t, "status for nobody", r.status, 200)
		want(t, "body for nobody", r.json(t), any(map[string]any{"repositories": []any{}}))
		r = e.get(t, "/v2/_catalog", e.token(t, e.robot, e.secret))
		want(t, "status for the robot", r.status, 200)
		found := false
		for _, name := range list(r.json(t), "repositories") {
			found = found || name == e.repo("priv")
		}
		want(t, "the robot's repositories hold priv", found, true)
	}},
}
