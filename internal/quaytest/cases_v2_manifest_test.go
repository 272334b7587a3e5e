package quaytest_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

var v2TagCases = []contractCase{
	{n: 44, name: "tag list of V2", run: func(t *testing.T, e *env) {
		path := "/v2/" + e.repo("many") + "/tags/list"
		r := e.get(t, path+"?n=2", "")
		want(t, "status", r.status, 200)
		want(t, "tags", list(r.json(t), "tags"), []any{"t000", "t001"})
		link := r.header.Get("Link")
		if !strings.HasPrefix(link, "</v2/"+e.repo("many")+"/tags/list?") || !strings.HasSuffix(link, `>; rel="next"`) {
			t.Fatalf("Link: got %q", link)
		}
		next := strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		want(t, "next page", list(e.get(t, next, "").json(t), "tags"), []any{"t002", "t003"})
		r = e.get(t, path+"?n=0", "")
		want(t, "tags of n=0", at(r.json(t), "tags"), any([]any{}))
		want(t, "Link of n=0", r.header.Get("Link"), "")
		want(t, "tags of n=1000", len(list(e.get(t, path+"?n=1000", "").json(t), "tags")), 100)
		want(t, "tags after t118", list(e.get(t, path+"?last=t118", "").json(t), "tags"), []any{"t119"})
	}},
}

// putManifest puts raw under ref.
func (e *env) putManifest(t *testing.T, repo, ref, mediaType, raw string) reply {
	t.Helper()
	return e.send(t, "PUT", "/v2/"+repo+"/manifests/"+ref, e.mine(t, repo), raw, "Content-Type: "+mediaType)
}

var v2ManifestCases = []contractCase{
	{n: 46, name: "what Accept gets", run: func(t *testing.T, e *env) {
		get := func(tag, accept string) reply {
			return e.get(t, "/v2/"+e.repo("app")+"/manifests/"+tag, "", "Accept: "+accept)
		}
		for _, c := range []struct {
			tag, accept string
			want        imagetest.Image
		}{
			{"multi", multi.Desc.MediaType, multi},
			{"multi", image2.Desc.MediaType, image2}, // the child for linux/amd64
			{"list", docker.Desc.MediaType, docker},
			{"v1", image1.Desc.MediaType + ", " + multi.Desc.MediaType, image1},
		} {
			r := get(c.tag, c.accept)
			want(t, c.tag+" as "+c.accept, r.body, string(c.want.Raw))
			want(t, "Content-Type", r.header.Get("Content-Type"), c.want.Desc.MediaType)
			want(t, "Docker-Content-Digest", r.header.Get("Docker-Content-Digest"), string(c.want.Desc.Digest))
		}
		for _, r := range []reply{get("docker", "*/*"), e.get(t, "/v2/"+e.repo("app")+"/manifests/docker", "")} {
			want(t, "status without a type", r.status, 200)
			if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/vnd.docker.distribution.manifest.v1+") {
				t.Errorf("Content-Type: got %q, want schema 1", ct)
			}
			want(t, "schemaVersion", at(r.json(t), "schemaVersion"), any(1.0))
		}
		v2Error(t, get("artifact", "*/*"), 404, "MANIFEST_UNKNOWN")
		byDigest := e.get(t, "/v2/"+e.repo("app")+"/manifests/"+string(arm.Desc.Digest), "")
		want(t, "a child by digest, without Accept", byDigest.body, string(arm.Raw))
	}},
	{n: 47, name: "an index without its child", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		r := e.putManifest(t, repo, "v1", multi.Desc.MediaType, string(multi.Raw))
		v2Error(t, r, 400, "MANIFEST_INVALID")
		if m, _ := at(r.json(t), "errors", 0, "detail", "message").(string); !strings.Contains(m, "Could not find child manifest") {
			t.Errorf("detail: got %q", m)
		}
		r = e.putManifest(t, repo, string(multi.Desc.Digest), multi.Desc.MediaType, string(multi.Raw))
		v2Error(t, r, 400, "MANIFEST_INVALID")
		want(t, "detail by digest", at(r.json(t), "errors", 0, "detail"), any(map[string]any{}))
	}},
	{n: 48, name: "manifests that are refused", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		r := e.putManifest(t, repo, "v1", "text/plain", string(image1.Raw))
		v2Error(t, r, 415, "MANIFEST_INVALID")
		want(t, "detail", at(r.json(t), "errors", 0, "detail", "message"), any("manifest schema version not supported"))
		want(t, "with a charset", e.putManifest(t, repo, "v1", oci.MediaTypeManifest+"; charset=utf-8", string(image1.Raw)).status, 415)
		r = e.putManifest(t, repo, "v1", oci.MediaTypeManifest, string(image1.Raw))
		v2Error(t, r, 400, "MANIFEST_INVALID")
		if m, _ := at(r.json(t), "errors", 0, "detail", "message").(string); !strings.HasPrefix(m, "Unknown blob `sha256:") {
			t.Errorf("detail of a missing blob: got %q", m)
		}
		e.push(t, repo, "v1", image1)
		v2Error(t, e.putManifest(t, repo, string(image2.Desc.Digest), oci.MediaTypeManifest, string(image1.Raw)), 400, "MANIFEST_INVALID")
		v2Error(t, e.putManifest(t, repo, "v1", oci.MediaTypeManifest, "{"), 400, "MANIFEST_INVALID")
		r = e.putManifest(t, repo, "v2", oci.MediaTypeManifest, string(image1.Raw))
		want(t, "status of a good one", r.status, 201)
		want(t, "body of a good one", r.body, "OK")
		want(t, "Location", r.header.Get("Location"), "/v2/"+repo+"/manifests/"+string(image1.Desc.Digest))
	}},
	{n: 52, name: "delete on V2", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		e.push(t, repo, "v1", image1)
		e.push(t, repo, "v2", image1)
		e.push(t, repo, "v3", image2)
		remove := func(path string) reply { return e.send(t, "DELETE", "/v2/"+repo+path, e.mine(t, repo), nil) }
		want(t, "by digest", remove("/manifests/"+string(image1.Desc.Digest)).status, 202)
		want(t, "tags left", names(e.tags(t, repo, "onlyActiveTags=true")), []string{"v3"})
		v2Error(t, remove("/manifests/"+string(image1.Desc.Digest)), 404, "MANIFEST_UNKNOWN")
		want(t, "by tag", remove("/manifests/v3").status, 202)
		want(t, "tags left after that", names(e.tags(t, repo, "onlyActiveTags=true")), nil)
		v2Error(t, remove("/blobs/"+string(base.Desc.Digest)), 405, "UNSUPPORTED")
	}},
	{n: 53, name: "referrers", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		e.push(t, repo, "v1", image1)
		x, y := newArtifact("application/x", &image1.Desc), newArtifact("application/y", &image1.Desc)
		e.push(t, repo, "", x)
		e.push(t, repo, "", y)
		get := func(d digest.Digest, query string) reply {
			return e.get(t, "/v2/"+repo+"/referrers/"+string(d)+query, e.mine(t, repo))
		}
		r := get(image1.Desc.Digest, "")
		want(t, "status", r.status, 200)
		want(t, "Content-Type", r.header.Get("Content-Type"), oci.MediaTypeIndex)
		want(t, "referrers", len(list(r.json(t), "manifests")), 2)
		v2Error(t, get(arm.Desc.Digest, ""), 400, "MANIFEST_INVALID")
		r = get(image1.Desc.Digest, "?artifactType=application/x")
		want(t, "OCI-Filters-Applied", r.header.Get("OCI-Filters-Applied"), "artifactType")
		want(t, "of type x", column(list(r.json(t), "manifests"), "digest"), []any{string(x.Desc.Digest)})
	}},
	{n: 57, name: "a digest that only a dead tag names", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		get := func(ref string) reply {
			return e.get(t, "/v2/"+repo+"/manifests/"+ref, e.mine(t, repo), "Accept: "+oci.MediaTypeManifest)
		}
		d1 := string(image1.Desc.Digest)
		e.push(t, repo, "v1", image1)
		e.push(t, repo, "keep", image1)
		e.push(t, repo, "v1", image2)
		want(t, "while another tag lives", get(d1).status, 200)
		want(t, "delete", e.send(t, "DELETE", api(repo)+"/tag/keep", "Bearer "+e.admin, nil).status, 204)
		v2Error(t, get(d1), 404, "MANIFEST_UNKNOWN")
		r := get("v1")
		want(t, "by tag", r.status, 200)
		want(t, "digest by tag", r.header.Get("Docker-Content-Digest"), string(image2.Desc.Digest))
	}},
}
