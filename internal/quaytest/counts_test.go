package quaytest_test

import (
	"net/http"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

func TestKind(t *testing.T) {
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tt := range []struct{ method, url, want string }{
		{"GET", "/api/v1/repository?namespace=x&public=true", "api.repositories"},
		{"GET", "/api/v1/repository?starred=true", "api.probe"},
		{"POST", "/api/v1/repository", "api.create"},
		{"GET", "/api/v1/repository/a/b/c", "api.repository"},
		{"DELETE", "/api/v1/repository/a/b", "api.delete"},
		{"GET", "/api/v1/repository/a/b/c/tag/?page=2", "api.tags"},
		{"PUT", "/api/v1/repository/a/b/tag/v1", "api.tag.change"},
		{"DELETE", "/api/v1/repository/a/b/tag/v1", "api.tag.delete"},
		{"POST", "/api/v1/repository/a/b/tag/v1/restore", "api.tag.restore"},
		{"GET", "/api/v1/repository/a/b/tag/v1", "api.repository"},
		{"GET", "/api/v1/repository/a/b/manifest/" + d, "api.manifest"},
		{"GET", "/api/v1/repository/a/b/manifest/" + d + "/labels", "api.labels"},
		{"POST", "/api/v1/repository/a/b/changevisibility", "api.visibility"},
		{"GET", "/api/v1/nonsense", "api.other"},
		{"GET", "/v2/", "v2.ping"},
		{"GET", "/v2/auth?service=x", "v2.auth"},
		{"GET", "/v2/_catalog", "v2.catalog"},
		{"GET", "/v2/a/b/tags/list", "v2.tags"},
		{"HEAD", "/v2/a/b/manifests/v1", "v2.manifest.head"},
		{"GET", "/v2/a/b/manifests/" + d, "v2.manifest.get"},
		{"PUT", "/v2/a/b/manifests/v1", "v2.manifest.put"},
		{"HEAD", "/v2/a/b/blobs/" + d, "v2.blob.head"},
		{"GET", "/v2/a/b/c/blobs/" + d, "v2.blob.get"},
		{"POST", "/v2/a/b/blobs/uploads/", "v2.upload.start"},
		{"POST", "/v2/a/b/blobs/uploads/?mount=" + d + "&from=c/d", "v2.mount"},
		{"PATCH", "/v2/a/b/blobs/uploads/xyz", "v2.upload.patch"},
		{"PUT", "/v2/a/b/blobs/uploads/xyz?digest=" + d, "v2.upload.put"},
		{"GET", "/v2/a/b/referrers/" + d, "v2.referrers"},
		{"GET", "/v2/a/b", "v2.other"},
		{"GET", "/favicon.ico", "other"},
	} {
		r, err := http.NewRequest(tt.method, "http://host"+tt.url, nil)
		check(t, err)
		want(t, tt.method+" "+tt.url, quaytest.Kind(r), tt.want)
	}
}

// TestTransfers: only what was completed counts, where it went to.
func TestTransfers(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	in := func(repo string) quaytest.Blob { return quaytest.Blob{Repository: repo, Digest: base.Desc.Digest} }
	get := func(repo, rng string) {
		t.Helper()
		r := e.get(t, "/v2/"+repo+"/blobs/"+string(base.Desc.Digest), "")
		r = e.get(t, r.header.Get("Location"), "", "Range: "+rng)
		want(t, "status of "+rng, r.status, 206)
	}
	get("pub/app", "bytes=0-9")
	want(t, "gets of the beginning", e.fake.Transfers().Gets[in("pub/app")], 0)
	get("pub/app", "bytes=10-")
	want(t, "gets of the end", e.fake.Transfers().Gets[in("pub/app")], 1)
	get("pub/team/svc", "bytes=0-999999")
	want(t, "gets of all, from another repository", e.fake.Transfers().Gets[in("pub/team/svc")], 1)

	repo := e.scratch(t)
	e.push(t, repo, "v1", image1)
	want(t, "puts", e.fake.Transfers().Puts[in(repo)], 1)
	want(t, "distinct puts", len(e.fake.Transfers().Puts), len(image1.Blobs))
	other := e.scratch(t)
	r := e.send(t, "POST", "/v2/"+other+"/blobs/uploads/?from="+repo+"&mount="+string(base.Desc.Digest), e.mine(t, other), nil)
	want(t, "status of a mount", r.status, 201)
	want(t, "mounts", e.fake.Transfers().Mounts, map[quaytest.Blob]int{in(other): 1})
	r = e.send(t, "POST", "/v2/"+other+"/blobs/uploads/?from="+repo+"&mount="+string(arm.Desc.Digest), e.mine(t, other), nil)
	want(t, "status of a mount of nothing", r.status, 202)
	want(t, "mounts after that", len(e.fake.Transfers().Mounts), 1)

	e.fake.Reset()
	want(t, "counts after a reset", len(e.fake.Counts()), 0)
	want(t, "transfers after a reset", len(e.fake.Transfers().Puts), 0)
}

// TestAuthorizations: what was sent where, the storage's host too.
func TestAuthorizations(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	e.get(t, api("pub/app"), "Bearer one")
	e.get(t, api("pub/app"), "Bearer one")
	e.get(t, "http://"+e.run.StorageHost+"/x", "Bearer two")
	want(t, "authorizations", e.fake.Authorizations(), []quaytest.Authorization{
		{Host: e.host, Path: api("pub/app"), Value: "Bearer one"},
		{Host: e.run.StorageHost, Path: "/x", Value: "Bearer two"},
	})
}
