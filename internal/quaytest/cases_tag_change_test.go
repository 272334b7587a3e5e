package quaytest_test

import (
	"testing"
	"time"
)

// point sets a tag by the API.
func (e *env) point(t *testing.T, repo, tag, auth string, body any) reply {
	t.Helper()
	return e.send(t, "PUT", api(repo)+"/tag/"+tag, auth, body)
}

var tagChangeCases = []contractCase{
	{n: 28, name: "no change without an OAuth token", run: func(t *testing.T, e *env) {
		for who, auth := range map[string]string{"nobody": "", "robot": "Bearer " + e.secret, "garbage": "Bearer garbage"} {
			r := e.point(t, e.repo("app"), "new", auth, map[string]any{"manifest_digest": image1.Desc.Digest})
			want(t, who+": status", r.status, 403)
			want(t, who+": error", at(r.json(t), "error"), any("CSRF token was invalid or missing."))
		}
	}},
	{n: 29, name: "a stranger's change, an admin's", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		e.push(t, repo, "v1", image1)
		body := map[string]any{"manifest_digest": image1.Desc.Digest}
		apiError(t, e.point(t, repo, "new", "Bearer "+e.other, body), 403, "insufficient_scope", "Unauthorized")
		r := e.point(t, repo, "new", "Bearer "+e.admin, body)
		want(t, "status", r.status, 201)
		want(t, "body", r.json(t), any("Updated"))
		want(t, "listed", names(e.tags(t, repo, "specificTag=new")), []string{"new"})
	}},
	{n: 30, name: "digests that can't be tagged", run: func(t *testing.T, e *env) {
		repo, ta := e.scratch(t), "Bearer "+e.admin
		e.push(t, repo, "v1", image1)
		e.push(t, repo, "", image2)
		want(t, "unknown digest", e.point(t, repo, "new", ta, map[string]any{"manifest_digest": arm.Desc.Digest}).status, 404)
		want(t, "pushed by digest", e.point(t, repo, "new", ta, map[string]any{"manifest_digest": image2.Desc.Digest}).status, 404)
		r := e.point(t, repo, "-x", ta, map[string]any{"manifest_digest": image1.Desc.Digest})
		want(t, "bad name", r.status, 400)
		want(t, "message", at(r.json(t), "message"), any(`Invalid tag: must match [A-Za-z0-9_.-], NOT start with "." or "-", and can contain 1-128 characters`))
	}},
	{n: 31, name: "expiration is clamped", run: func(t *testing.T, e *env) {
		repo, ta := e.scratch(t), "Bearer "+e.admin
		e.push(t, repo, "v1", image1)
		expire := func(v any) reply { return e.point(t, repo, "v1", ta, map[string]any{"expiration": v}) }
		want(t, "in a minute", expire(e.now().Unix()+60).status, 201)
		row := at(e.tags(t, repo, "specificTag=v1"), "tags", 0)
		want(t, "end_ts", at(row, "end_ts"), any(at(row, "start_ts").(float64)+3600))
		want(t, "has expiration", has(row, "expiration"), true)
		want(t, "in the past", expire(e.now().Unix()-60).status, 400)
		invalidRequest(t, expire("soon"))
		want(t, "never", expire(nil).status, 201)
		want(t, "has end_ts", has(at(e.tags(t, repo, "specificTag=v1"), "tags", 0), "end_ts"), false)
		want(t, "of no tag", e.point(t, repo, "v9", ta, map[string]any{"expiration": nil}).status, 404)
	}},
	{n: 32, name: "delete", run: func(t *testing.T, e *env) {
		repo, ta := e.scratch(t), "Bearer "+e.admin
		e.push(t, repo, "v1", image1)
		want(t, "status", e.send(t, "DELETE", api(repo)+"/tag/v1", ta, nil).status, 204)
		want(t, "status, again", e.send(t, "DELETE", api(repo)+"/tag/v1", ta, nil).status, 404)
		want(t, "has end_ts", has(at(e.tags(t, repo, "specificTag=v1"), "tags", 0), "end_ts"), true)
		v2Error(t, e.get(t, "/v2/"+repo+"/manifests/v1", e.mine(t, repo)), 404, "TAG_EXPIRED")
	}},
	{n: 33, name: "restore", run: func(t *testing.T, e *env) {
		repo, ta := e.scratch(t), "Bearer "+e.admin
		e.push(t, repo, "v1", image1)
		want(t, "delete", e.send(t, "DELETE", api(repo)+"/tag/v1", ta, nil).status, 204)
		r := e.send(t, "POST", api(repo)+"/tag/v1/restore", ta, map[string]any{"manifest_digest": image1.Desc.Digest})
		want(t, "status", r.status, 200)
		want(t, "body", r.json(t), any(map[string]any{}))
		row := at(e.tags(t, repo, "specificTag=v1&onlyActiveTags=true"), "tags", 0)
		want(t, "reversion", at(row, "reversion"), any(true))
		r = e.send(t, "POST", api(repo)+"/tag/v1/restore", ta, map[string]any{})
		want(t, "status without a digest", r.status, 400)
		want(t, "detail without a digest", at(r.json(t), "detail"), any("Missing manifest_digest"))
		r = e.send(t, "POST", api(repo)+"/tag/v1/restore", ta, map[string]any{"manifest_digest": arm.Desc.Digest})
		want(t, "unknown digest", r.status, 404)
	}},
	{n: 45, name: "the tag list of V2 is cached", needs: fakeOnly("a clock, and one node"), run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		e.push(t, repo, "v1", image1)
		listed := func() []any { return list(e.get(t, "/v2/"+repo+"/tags/list", "").json(t), "tags") }
		want(t, "at first", listed(), []any{"v1"})
		e.push(t, repo, "v2", image2)
		want(t, "after a push", listed(), []any{"v1"})
		e.clock.add(2 * time.Minute)
		want(t, "two minutes later", listed(), []any{"v1", "v2"})
		want(t, "delete", e.send(t, "DELETE", api(repo)+"/tag/v1", "Bearer "+e.admin, nil).status, 204)
		want(t, "after a delete", listed(), []any{"v2"})
	}},
}
