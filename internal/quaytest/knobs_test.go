package quaytest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestKnobs shows what each option changes.
func TestKnobs(t *testing.T) {
	tests := []struct {
		name string
		set  func(*quaytest.Options)
		run  func(*testing.T, *env)
	}{
		{"no anonymous access", func(o *quaytest.Options) { o.NoAnonymousAccess = true }, func(t *testing.T, e *env) {
			r := e.get(t, api("pub/app"), "")
			want(t, "status", r.status, 401)
			want(t, "error", at(r.json(t), "error"), any("Anonymous access is not allowed"))
			want(t, "status of V2", e.get(t, "/v2/pub/app/tags/list", "").status, 401)
			want(t, "status of a user", e.get(t, api("pub/app"), "Bearer "+e.other).status, 200)
		}},
		{"no nested names", func(o *quaytest.Options) { o.NoExtendedNames = true }, func(t *testing.T, e *env) {
			r := e.send(t, "POST", repositories, "Bearer "+e.admin, map[string]any{"namespace": "pub", "repository": "a/b", "visibility": "public", "description": ""})
			want(t, "detail", at(r.json(t), "detail"), any("Invalid repository name"))
		}},
		{"library", nil, func(t *testing.T, e *env) {
			check(t, e.fake.Push(t.Context(), "library/foo", "v1", image1))
			r := e.get(t, "/v2/foo/tags/list", "")
			want(t, "name", at(r.json(t), "name"), any("library/foo"))
		}},
		{"no library", func(o *quaytest.Options) { o.NoLibrary = true }, func(t *testing.T, e *env) {
			check(t, e.fake.Push(t.Context(), "library/foo", "v1", image1))
			want(t, "status", e.get(t, "/v2/foo/tags/list", "").status, 404)
		}},
		{"no referrers", func(o *quaytest.Options) { o.NoReferrers = true }, func(t *testing.T, e *env) {
			r := e.get(t, "/v2/pub/app/referrers/"+string(image1.Desc.Digest), "")
			want(t, "status", r.status, 404)
			want(t, "error", at(r.json(t), "error"), any("Not Found"))
		}},
		{"images only", func(o *quaytest.Options) { o.NoGeneralOCI = true }, func(t *testing.T, e *env) {
			v2Error(t, e.putManifest(t, "pub/app", "x", oci.MediaTypeManifest, string(artifact.Raw)), 400, "MANIFEST_INVALID")
			want(t, "status of an image", e.putManifest(t, "pub/app", "x", oci.MediaTypeManifest, string(image1.Raw)).status, 201)
		}},
		{"public catalog", func(o *quaytest.Options) { o.PublicCatalog = true }, func(t *testing.T, e *env) {
			r := e.get(t, "/v2/_catalog?n=2", "")
			want(t, "repositories", list(r.json(t), "repositories"), []any{"pub/app", "pub/team/svc"})
			next, _, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
			want(t, "next page", list(e.get(t, next, "").json(t), "repositories"), []any{"pub/empty", "pub/many"})
		}},
		{"quota", func(o *quaytest.Options) { o.QuotaManagement = true }, func(t *testing.T, e *env) {
			check(t, e.fake.SetQuota("pub", 100))
			row := at(e.get(t, repositories+"?namespace=pub&public=true", "").json(t), "repositories", 0)
			want(t, "configured_quota", at(row, "quota_report", "configured_quota"), any(100.0))
			v2Error(t, e.send(t, "POST", "/v2/pub/app/blobs/uploads/", e.mine(t, "pub/app"), nil), 403, "DENIED")
			v2Error(t, e.putManifest(t, "pub/app", "x", oci.MediaTypeManifest, string(image1.Raw)), 403, "DENIED")
		}},
		{"immutable tags", func(o *quaytest.Options) { o.ImmutableTags = true }, func(t *testing.T, e *env) {
			ta := "Bearer " + e.admin
			want(t, "set", e.point(t, "pub/app", "v1", ta, map[string]any{"immutable": true}).status, 201)
			want(t, "immutable", at(e.tags(t, "pub/app", "specificTag=v1"), "tags", 0, "immutable"), any(true))
			apiError(t, e.point(t, "pub/app", "v1", ta, map[string]any{"manifest_digest": image2.Desc.Digest}), 409, "tag_immutable", "Cannot overwrite immutable tag 'v1'")
			apiError(t, e.send(t, "DELETE", api("pub/app")+"/tag/v1", ta, nil), 409, "tag_immutable", "Cannot delete immutable tag 'v1'")
			v2Error(t, e.putManifest(t, "pub/app", "v1", oci.MediaTypeManifest, string(image2.Raw)), 409, "TAG_IMMUTABLE")
			v2Error(t, e.send(t, "DELETE", "/v2/pub/app/manifests/v1", e.mine(t, "pub/app"), nil), 409, "TAG_IMMUTABLE")
		}},
		{"tags deleted for good", func(o *quaytest.Options) { o.PermanentlyDeleteTags = true }, func(t *testing.T, e *env) {
			check(t, e.fake.DeleteTag("pub/app", "v1"))
			r := e.send(t, "POST", api("pub/app")+"/tag/v1/expire", "Bearer "+e.admin, map[string]any{})
			want(t, "status", r.status, 200)
			want(t, "history", names(e.tags(t, "pub/app", "specificTag=v1")), nil)
		}},
		{"sparse indexes", func(o *quaytest.Options) { o.SparseIndex = true }, func(t *testing.T, e *env) {
			repo := e.scratch(t)
			want(t, "status", e.putManifest(t, repo, "v1", multi.Desc.MediaType, string(multi.Raw)).status, 201)
			row := at(e.tags(t, repo, ""), "tags", 0)
			want(t, "is_sparse", at(row, "is_sparse"), any(true))
			want(t, "present_child_count", at(row, "present_child_count"), any(0.0))
			want(t, "X-Sparse-Manifest-Support", e.get(t, "/v2/", "").header.Get("X-Sparse-Manifest-Support"), "true")
		}},
		{"read-only registry", func(o *quaytest.Options) { o.ReadOnly = true }, func(t *testing.T, e *env) {
			r := e.send(t, "DELETE", api("pub/app")+"/tag/v1", "Bearer "+e.admin, nil)
			want(t, "status", r.status, 503)
			want(t, "is_readonly", at(r.json(t), "is_readonly"), any(true))
			want(t, "actions", actions(t, strings.TrimPrefix(e.mine(t, "pub/app"), "Bearer ")), []any{"pull"})
		}},
		{"mirrored organisation", func(o *quaytest.Options) { o.OrgMirror = true }, func(t *testing.T, e *env) {
			check(t, e.fake.MirrorOrg("pub"))
			invalidRequest(t, e.send(t, "POST", repositories, "Bearer "+e.admin, map[string]any{"namespace": "pub", "repository": "x", "visibility": "public", "description": ""}))
			want(t, "actions", actions(t, strings.TrimPrefix(e.mine(t, "pub/x"), "Bearer ")), []any{"pull"})
		}},
		{"mirrors", func(o *quaytest.Options) { o.RepoMirror = true }, func(t *testing.T, e *env) {
			ta, path := "Bearer "+e.admin, api("pub/app")+"/mirror"
			want(t, "none", e.get(t, path, ta).status, 404)
			body := map[string]any{"external_reference": "quay.io/x/y", "sync_interval": 60, "sync_start_date": nil, "external_registry_password": "hidden",
				"root_rule": map[string]any{"rule_kind": "tag_glob_csv", "rule_value": []string{"*"}}}
			want(t, "create", e.send(t, "POST", path, ta, body).status, 201)
			r := e.get(t, path, ta)
			want(t, "external_reference", at(r.json(t), "external_reference"), any("quay.io/x/y"))
			want(t, "the password is shown", strings.Contains(r.body, "hidden"), false)
			want(t, "sync", e.send(t, "POST", path+"/sync-now", ta, nil).status, 204)
		}},
		{"no mounts", func(o *quaytest.Options) { o.NoMounts = true }, func(t *testing.T, e *env) {
			repo := e.scratch(t)
			path := fmt.Sprintf("/v2/%s/blobs/uploads/?mount=%s&from=pub/app", repo, base.Desc.Digest)
			r := e.send(t, "POST", path, e.token(t, e.user, e.password, "repository:"+repo+":pull,push", "repository:pub/app:pull"), nil)
			want(t, "status", r.status, 202)
			want(t, "has a location", r.header.Get("Location") != "", true)
		}},
		{"streamed blobs", func(o *quaytest.Options) { o.StreamBlobs = true }, func(t *testing.T, e *env) {
			path := "/v2/pub/app/blobs/" + string(base.Desc.Digest)
			r := e.get(t, path, "", "Accept-Encoding: identity", "Range: bytes=3-5")
			want(t, "status", r.status, 200)
			want(t, "content", r.body, string(base.Bytes))
			want(t, "Content-Length", r.header.Get("Content-Length"), fmt.Sprint(len(base.Bytes)))
			r = e.get(t, path, "", "Accept-Encoding: gzip")
			want(t, "Content-Encoding", r.header.Get("Content-Encoding"), "gzip")
			r = e.get(t, path, "") // Go's client inflates
			want(t, "content after gzip", r.body, string(base.Bytes))
			want(t, "Content-Length after gzip", r.header.Get("Content-Length"), "")
			want(t, "transfers", e.fake.Transfers().Gets[quaytest.Blob{Repository: "pub/app", Digest: base.Desc.Digest}], 3)
		}},
		{"storage proxy", func(o *quaytest.Options) { o.StorageProxy = true }, func(t *testing.T, e *env) {
			r := e.get(t, "/v2/pub/app/blobs/"+string(base.Desc.Digest), "")
			u, err := url.Parse(r.header.Get("Location"))
			check(t, err)
			want(t, "host", u.Host, e.host)
			want(t, "content", e.get(t, r.header.Get("Location"), "Bearer any").body, string(base.Bytes))
		}},
		{"time machine", func(o *quaytest.Options) { o.TimeMachine = time.Hour }, func(t *testing.T, e *env) {
			check(t, e.fake.DeleteTag("pub/app", "v1"))
			e.clock.add(59 * time.Minute)
			v2Error(t, e.get(t, "/v2/pub/app/manifests/v1", ""), 404, "TAG_EXPIRED")
			want(t, "history", names(e.tags(t, "pub/app", "specificTag=v1")), []string{"v1"})
			e.clock.add(time.Minute)
			v2Error(t, e.get(t, "/v2/pub/app/manifests/v1", ""), 404, "MANIFEST_UNKNOWN")
			want(t, "history after an hour", names(e.tags(t, "pub/app", "specificTag=v1")), nil)
			r := e.send(t, "POST", api("pub/app")+"/tag/v1/restore", "Bearer "+e.admin, map[string]any{"manifest_digest": image1.Desc.Digest})
			want(t, "status of restore", r.status, 404)
		}},
		{"life of a V2 token", func(o *quaytest.Options) { o.TokenLife = time.Minute }, func(t *testing.T, e *env) {
			token := e.mine(t, "pub/priv")
			e.clock.add(89 * time.Second) // 30 s are for skew
			want(t, "status", e.get(t, "/v2/pub/priv/tags/list", token).status, 200)
			e.clock.add(time.Second)
			want(t, "status, later", e.get(t, "/v2/pub/priv/tags/list", token).status, 401)
		}},
		{"wrong passwords", func(o *quaytest.Options) { o.WrongLogins = 2 }, func(t *testing.T, e *env) {
			for _, status := range []int{401, 401, 429} {
				want(t, "status", e.auth(t, "repository:pub/app:pull", basic("alice", "guess")).status, status)
			}
			want(t, "Retry-After", e.auth(t, "repository:pub/app:pull", basic("alice", e.password)).header.Get("Retry-After"), "30")
		}},
		{"no cache", func(o *quaytest.Options) { o.TagCache = -1 }, func(t *testing.T, e *env) {
			want(t, "tags", len(list(e.get(t, "/v2/pub/team/svc/tags/list", "").json(t), "tags")), 1)
			check(t, e.fake.Push(t.Context(), "pub/team/svc", "v2", image1))
			want(t, "tags after a push", len(list(e.get(t, "/v2/pub/team/svc/tags/list", "").json(t), "tags")), 2)
		}},
		{"page tokens last two days", nil, func(t *testing.T, e *env) {
			path := repositories + "?public=true&namespace=big"
			first := e.get(t, path, "").json(t)
			next := path + "&next_page=" + queryEscape(at(first, "next_page").(string))
			e.clock.add(48 * time.Hour)
			want(t, "name on page 2", at(e.get(t, next, "").json(t), "repositories", 0, "name"), any("r150"))
			e.clock.add(time.Second)
			want(t, "name on page 1", at(e.get(t, next, "").json(t), "repositories", 0, "name"), any("r250"))
		}},
		{"quay.expires-after", nil, func(t *testing.T, e *env) {
			repo := e.scratch(t)
			img := imagetest.New(imagetest.Linux, map[string]string{"quay.expires-after": "2d"}, base)
			e.push(t, repo, "v1", img)
			e.push(t, repo, "v2", imagetest.Index(img, image2))
			e.push(t, repo, "v3", imagetest.Index(img))
			ends := map[string]bool{}
			for _, row := range list(e.tags(t, repo, ""), "tags") {
				ends[at(row, "name").(string)] = has(row, "end_ts")
			}
			want(t, "tags that end", ends, map[string]bool{"v1": true, "v2": false, "v3": true})
			e.clock.add(48 * time.Hour)
			want(t, "tags two days later", names(e.tags(t, repo, "onlyActiveTags=true")), []string{"v2"})
		}},
		{"cosign companions go with the last tag", nil, func(t *testing.T, e *env) {
			sig := "sha256-" + image1.Desc.Digest.Encoded() + ".sig"
			check(t, e.fake.Push(t.Context(), "pub/app", sig, artifact))
			check(t, e.fake.DeleteTag("pub/app", "v1"))
			want(t, "signature", names(e.tags(t, "pub/app", "onlyActiveTags=true&specificTag="+sig)), nil)
		}},
		{"a browser", nil, func(t *testing.T, e *env) {
			want(t, "status", e.get(t, api("pub/app"), "", "User-Agent: Mozilla/5.0").status, 400)
			want(t, "status of XHR", e.get(t, api("pub/app"), "", "User-Agent: Mozilla/5.0", "X-Requested-With: XMLHttpRequest").status, 200)
		}},
		{"wrong methods", nil, func(t *testing.T, e *env) {
			r := e.send(t, "POST", api("pub/app"), "Bearer "+e.admin, nil)
			want(t, "status", r.status, 405)
			want(t, "Allow", r.header.Get("Allow"), "DELETE, GET, HEAD, OPTIONS, PUT")
			want(t, "status of POST /v2/auth", e.send(t, "POST", "/v2/auth", "", nil).status, 405)
			r = e.send(t, "PUT", api("pub/app")+"/tag/v1", "Bearer "+e.admin, "{}")
			want(t, "status without Content-Type", r.status, 415)
			r = e.send(t, "PUT", api("pub/app")+"/tag/v1", "Bearer "+e.admin, "{", "Content-Type: application/json")
			want(t, "status of bad JSON", r.status, 400)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := quaytest.Options{}
			if tt.set != nil {
				tt.set(&o)
			}
			tt.run(t, newFakeEnv(t, o))
		})
	}
}
