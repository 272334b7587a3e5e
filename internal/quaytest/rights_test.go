package quaytest_test

import (
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestScopes: a token can do what its user can, and no more than its scopes.
func TestScopes(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	s := e.fake
	change := map[string]any{"manifest_digest": image1.Desc.Digest}
	for _, tt := range []struct {
		name                            string
		token                           string
		public, private, write, destroy int // statuses
	}{
		{"read", s.AddToken("alice", "repo:read"), 200, 200, 403, 403},
		{"write", s.AddToken("alice", "repo:write"), 200, 200, 201, 403},
		{"admin", s.AddToken("alice", "repo:admin"), 200, 200, 201, 204},
		{"user only", s.AddToken("alice", "user:read"), 200, 403, 403, 403},
		{"one unknown scope", s.AddToken("alice", "repo:admin", "repo:fly"), 200, 403, 403, 403},
		{"a stranger", s.AddToken("bob", "repo:admin"), 200, 403, 403, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			auth := "Bearer " + tt.token
			want(t, "public", e.get(t, api("pub/app"), auth).status, tt.public)
			want(t, "private", e.get(t, api("pub/priv"), auth).status, tt.private)
			want(t, "write", e.point(t, "pub/app", "x", auth, change).status, tt.write)
			want(t, "destroy", e.send(t, "DELETE", api("pub/nosuch"), auth, nil).status, tt.destroy)
		})
	}
}

// TestCreators: who may make repositories.
func TestCreators(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	check(t, e.fake.AddTeam("pub", "makers", "creator", "bob", "pub+bot"))
	create := func(token, name string) int {
		return e.send(t, "POST", repositories, "Bearer "+token, map[string]any{"namespace": "pub", "repository": name, "visibility": "private", "description": ""}).status
	}
	want(t, "by a creator without the scope", create(e.fake.AddToken("bob", "repo:admin"), "x"), 403)
	bob := e.fake.AddToken("bob", "repo:create", "repo:admin")
	want(t, "by a creator", create(bob, "x"), 201)
	want(t, "what it is to its creator", at(e.get(t, api("pub/x"), "Bearer "+bob).json(t), "can_admin"), any(true))
	want(t, "a robot's actions", actions(t, strings.TrimPrefix(e.token(t, e.robot, e.secret, "repository:pub/y:push"), "Bearer ")), []any{"push", "pull"})
	want(t, "a stranger's actions", actions(t, strings.TrimPrefix(e.token(t, "bob", "secret of bob", "repository:big/y:push,pull"), "Bearer ")), nil)
}

// TestV2Credentials: every kind of login, and tokens that are not ours.
func TestV2Credentials(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	scope := "repository:pub/priv:pull"
	for name, c := range map[string]struct {
		user, password string
		want           []any
	}{
		"user": {"alice", e.password, []any{"pull"}}, "robot": {e.robot, e.secret, []any{"pull"}},
		"OAuth token": {"$oauthtoken", e.admin, []any{"pull"}}, "app token": {"$app", e.fake.AddAppToken("alice"), []any{"pull"}},
		"OAuth token without rights": {"$oauthtoken", e.other, nil},
		"OAuth token without scope":  {"$oauthtoken", e.fake.AddToken("alice", "user:read"), nil},
	} {
		want(t, name, actions(t, strings.TrimPrefix(e.token(t, c.user, c.password, scope), "Bearer ")), c.want)
	}
	for name, auth := range map[string]string{
		"expired": basic("$oauthtoken", e.expired), "app token as OAuth": basic("$oauthtoken", e.fake.AddAppToken("alice")),
		"no such robot": basic("pub+nobody", "x"), "no such user": basic("nobody", "x"), "organisation": basic("pub", ""), "not Basic": "Bearer x",
	} {
		t.Run(name, func(t *testing.T) { v2Error(t, e.auth(t, scope, auth), 401, "UNAUTHORIZED") })
	}
	want(t, "nobody, for nothing", e.get(t, "/v2/auth?service="+e.host, "").status, 401)
	v2Error(t, e.auth(t, "repository:pub/UPPER:pull", ""), 400, "NAME_INVALID")
	want(t, "a scope with the host", actions(t, at(e.auth(t, "repository:"+e.host+"/pub/app:pull", "").json(t), "token").(string)), []any{"pull"})

	path := "/v2/pub/priv/tags/list"
	good := e.mine(t, "pub/priv")
	want(t, "good token", e.get(t, path, good).status, 200)
	other := e.get(t, "/v2/auth?service=elsewhere&scope="+scope, basic(e.user, e.password))
	want(t, "token for another service", e.get(t, path, "Bearer "+at(other.json(t), "token").(string)).status, 401)
	parts := strings.Split(good, ".")
	swapped := strings.Split(e.token(t, "", "", scope), ".")
	want(t, "another token's claims", e.get(t, path, swapped[0]+"."+parts[1]+"."+swapped[2]).status, 401)

	all := e.token(t, e.user, e.password, "repository:pub/priv:*")
	want(t, "pull by *", e.get(t, path, all).status, 200)
	want(t, "delete by *", e.send(t, "DELETE", "/v2/pub/priv/manifests/v1", all, nil).status, 202)

	scoped := e.get(t, "/v2/_catalog", e.token(t, e.robot, e.secret, scope))
	want(t, "catalog of a token with a scope", list(scoped.json(t), "repositories"), nil)

	check(t, e.fake.DisableUser("alice"))
	want(t, "probe of a disabled user", e.get(t, repositories+"?starred=true", "Bearer "+e.admin).status, 400)
	v2Error(t, e.auth(t, scope, basic(e.user, e.password)), 401, "UNAUTHORIZED")
	check(t, e.fake.DisableUser("pub"))
	v2Error(t, e.auth(t, scope, basic(e.robot, e.secret)), 405, "DENIED")
}

// TestSmallCalls: the rest of v1 that the contract names.
func TestSmallCalls(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	r := e.get(t, "/api/v1/user/", "Bearer "+e.admin)
	want(t, "status of user/ without user:read", r.status, 401)
	want(t, "session_required", at(r.json(t), "session_required"), any(false))
	r = e.get(t, "/api/v1/user/", "Bearer "+e.fake.AddToken("alice", "user:read"))
	want(t, "username", at(r.json(t), "username"), any("alice"))
	r = e.get(t, "/api/v1/organization/pub/robots", "Bearer "+e.fake.AddToken("alice", "org:admin"))
	want(t, "robots", column(list(r.json(t), "robots"), "name"), []any{"pub+bot"})
	want(t, "the robot's token is shown", strings.Contains(r.body, e.secret), false)
	want(t, "status of robots for a stranger", e.get(t, "/api/v1/organization/pub/robots", "Bearer "+e.other).status, 403)
	r = e.get(t, "/api/v1/find/repositories?query=big/&page=2", "")
	want(t, "found", len(list(r.json(t), "results")), 10)
	want(t, "start_index", at(r.json(t), "start_index"), any(10.0))
	want(t, "private ones are found", len(list(e.get(t, "/api/v1/find/repositories?query=pub/priv", "").json(t), "results")), 0)
	want(t, "found with nothing", list(e.get(t, "/api/v1/find/all?query=", "").json(t), "results"), nil)
	want(t, "title of an error", at(e.get(t, "/api/v1/error/not_found", "").json(t), "title"), any("not_found"))
	want(t, "status of no error", e.get(t, "/api/v1/error/nonsense", "").status, 404)
	for _, path := range []string{"/api/v1/repository/", "/api/v1/repository/pub", "/api/v1/repository/pub/app/"} {
		r := e.get(t, path, "")
		want(t, "status of "+path, r.status, 404)
		want(t, "Content-Type of "+path, r.header.Get("Content-Type"), "text/html")
	}
	check(t, e.fake.Star("alice", "pub/app"))
	want(t, "starred", column(list(e.get(t, repositories+"?starred=true", "Bearer "+e.admin).json(t), "repositories"), "name"), []any{"app"})
	r = e.send(t, "PUT", api("pub/app"), "Bearer "+e.admin, map[string]any{"description": "about"})
	want(t, "success", at(r.json(t), "success"), any(true))
	r = e.send(t, "POST", api("pub/app")+"/changevisibility", "Bearer "+e.admin, map[string]any{"visibility": "private"})
	want(t, "success of changevisibility", at(r.json(t), "success"), any(true))
	want(t, "status for nobody now", e.get(t, api("pub/app"), "").status, 401)
	want(t, "changevisibility of nothing", e.send(t, "POST", api("pub/nosuch")+"/changevisibility", "Bearer "+e.admin, map[string]any{"visibility": "public"}).body, "null\n")

	subject := newArtifact("application/x", &image1.Desc)
	repo := e.scratch(t)
	e.push(t, repo, "v1", image1)
	e.push(t, repo, "x", subject)
	want(t, "OCI-Subject", e.putManifest(t, repo, "x", oci.MediaTypeManifest, string(subject.Raw)).header.Values("OCI-Subject"), nil)
}
