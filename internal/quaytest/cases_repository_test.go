package quaytest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

func queryEscape(s string) string { return url.QueryEscape(s) }

// apiError checks an answer in the shape of ApiException.
func apiError(t *testing.T, r reply, status int, typ, detail string) {
	t.Helper()
	want(t, "status", r.status, status)
	body := r.json(t)
	for key, v := range map[string]any{"error_type": typ, "title": typ, "detail": detail, "error_message": detail, "status": float64(status)} {
		want(t, key, at(body, key), v)
	}
}

var repositoryCases = []contractCase{
	{n: 13, name: "one repository", run: func(t *testing.T, e *env) {
		r := e.get(t, api(e.repo("app")), "")
		want(t, "status", r.status, 200)
		body := r.json(t)
		for key, v := range map[string]any{"can_write": false, "can_admin": false, "status_token": "", "is_public": true, "is_organization": true} {
			want(t, key, at(body, key), v)
		}
		want(t, "digest of v1", at(body, "tags", "v1", "manifest_digest"), any(string(image1.Desc.Digest)))
	}},
	{n: 14, name: "without tags", run: func(t *testing.T, e *env) {
		r := e.get(t, api(e.repo("app"))+"?includeTags=false", "")
		want(t, "status", r.status, 200)
		want(t, "has tags", has(r.json(t), "tags"), false)
	}},
	{n: 15, name: "a nested name", run: func(t *testing.T, e *env) {
		r := e.get(t, api(e.repo("team/svc")), "")
		want(t, "status", r.status, 200)
		want(t, "name", at(r.json(t), "name"), any(e.prefix+"team/svc"))
	}},
	{n: 16, name: "private or not there, for nobody", run: func(t *testing.T, e *env) {
		for _, name := range []string{"priv", "nosuch"} {
			apiError(t, e.get(t, api(e.repo(name)), ""), 401, "invalid_token", "Requires authentication")
		}
	}},
	{n: 17, name: "private or not there, for a stranger", run: func(t *testing.T, e *env) {
		for _, name := range []string{"priv", "nosuch"} {
			apiError(t, e.get(t, api(e.repo(name)), "Bearer "+e.other), 403, "insufficient_scope", "Unauthorized")
		}
	}},
	{n: 18, name: "not there, for the admin", run: func(t *testing.T, e *env) {
		apiError(t, e.get(t, api(e.repo("nosuch")), "Bearer "+e.admin), 404, "not_found", "Not Found")
	}},
	{n: 19, name: "tags without the slash", run: func(t *testing.T, e *env) {
		r := e.get(t, api(e.repo("app"))+"/tag", "")
		want(t, "status", r.status, 308)
		if loc := r.header.Get("Location"); !strings.HasSuffix(loc, api(e.repo("app"))+"/tag/") {
			t.Errorf("Location: got %q", loc)
		}
	}},
	{n: 34, name: "a read-only repository",
		set: func(o *quaytest.Options) { o.RepoMirror = true },
		needs: func(e *env) string {
			if e.repoMirror {
				return ""
			}
			return "FEATURE_REPO_MIRROR (QUAYTEST_REPO_MIRROR)"
		},
		run: func(t *testing.T, e *env) {
			repo, ta := e.scratch(t), "Bearer "+e.admin
			e.push(t, repo, "v1", image1)
			r := e.send(t, "PUT", api(repo)+"/changestate", ta, map[string]any{"state": "READ_ONLY"})
			want(t, "status of changestate", r.status, 200)
			for _, r := range []reply{
				e.send(t, "PUT", api(repo)+"/tag/v2", ta, map[string]any{"manifest_digest": image1.Desc.Digest}),
				e.send(t, "DELETE", api(repo)+"/tag/v1", ta, nil),
			} {
				want(t, "status of a change", r.status, 503)
				if m, _ := at(r.json(t), "message").(string); !strings.HasSuffix(m, ": 1") {
					t.Errorf("message: got %q", m)
				}
			}
			want(t, "status of a read", e.get(t, api(repo)+"/tag/", "").status, 200)
			for _, row := range list(e.get(t, repositories+"?public=true&namespace="+e.org, "").json(t), "repositories") {
				if e.org+"/"+at(row, "name").(string) == repo {
					want(t, "state", at(row, "state"), any("READ_ONLY"))
				}
			}
			r = e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/", e.mine(t, repo), nil)
			want(t, "status of a push", r.status, 401)
			r = e.send(t, "PUT", api(repo)+"/changestate", ta, map[string]any{"state": "SHUT"})
			invalidRequest(t, r)
		}},
	{n: 38, name: "create and delete", run: func(t *testing.T, e *env) {
		ta, name := "Bearer "+e.admin, fmt.Sprintf("%sscratch-%d", e.prefix, time.Now().UnixNano())
		create := func(name string) reply {
			return e.send(t, "POST", repositories, ta, map[string]any{"namespace": e.org, "repository": name, "visibility": "private", "description": ""})
		}
		r := create(name)
		want(t, "status", r.status, 201)
		want(t, "body", r.json(t), any(map[string]any{"namespace": e.org, "name": name, "kind": "image"}))
		r = create(name)
		want(t, "status, again", r.status, 400)
		want(t, "detail, again", at(r.json(t), "detail"), any("Repository already exists"))
		r = create("Bad Name")
		want(t, "status of a bad name", r.status, 400)
		want(t, "detail of a bad name", at(r.json(t), "detail"), any("Invalid repository name"))
		want(t, "status of delete", e.send(t, "DELETE", api(e.org+"/"+name), ta, nil).status, 204)
		want(t, "status of delete, again", e.send(t, "DELETE", api(e.org+"/"+name), ta, nil).status, 204)
	}},
}
