package quaytest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// withDigest adds ?digest= to the location of an upload.
func withDigest(t *testing.T, location string, d digest.Digest) string {
	t.Helper()
	u, err := url.Parse(location)
	check(t, err)
	q := u.Query()
	q.Set("digest", string(d))
	u.RawQuery = q.Encode()
	return u.String()
}

var v2BlobCases = []contractCase{
	{n: 49, name: "an upload", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		auth, content := e.mine(t, repo), "hello world"
		r := e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/", auth, nil)
		want(t, "status of POST", r.status, 202)
		want(t, "Range of POST", r.header.Get("Range"), "bytes=0--1")
		loc := r.header.Get("Location")
		if !strings.HasPrefix(loc, e.base+"/v2/"+repo+"/blobs/uploads/") || r.header.Get("Docker-Upload-UUID") == "" {
			t.Fatalf("Location: got %q, UUID %q", loc, r.header.Get("Docker-Upload-UUID"))
		}
		r = e.send(t, "PATCH", loc, auth, content[5:], "Content-Range: 5-10")
		want(t, "status of a gap", r.status, 416)
		want(t, "Range of a gap", r.header.Get("Range"), "0-0")
		r = e.send(t, "PATCH", loc, auth, content[:5])
		want(t, "status of PATCH", r.status, 202)
		want(t, "Range of PATCH", r.header.Get("Range"), "0-4")
		r = e.send(t, "PATCH", loc, auth, content[3:], "Content-Range: 3-10")
		want(t, "status of an overlap", r.status, 202)
		want(t, "Range of an overlap", r.header.Get("Range"), "0-10")
		want(t, "status of a bad range", e.send(t, "PATCH", loc, auth, "x", "Content-Range: bytes 11-11").status, 400)
		r = e.get(t, loc, auth)
		want(t, "status of GET", r.status, 204)
		want(t, "Range of GET", r.header.Get("Range"), "bytes=0-11")
		v2Error(t, e.send(t, "PUT", withDigest(t, loc, digest.FromString("other")), auth, nil), 400, "BLOB_UPLOAD_INVALID")
		v2Error(t, e.send(t, "PUT", withDigest(t, loc, digest.FromString(content)), auth, nil), 404, "BLOB_UPLOAD_UNKNOWN")

		r = e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/", auth, nil)
		loc = r.header.Get("Location")
		v2Error(t, e.send(t, "PUT", loc, auth, nil), 400, "BLOB_UPLOAD_INVALID") // no digest
		r = e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/", auth, nil)
		loc = r.header.Get("Location")
		want(t, "status of a first chunk", e.send(t, "PATCH", loc, auth, content[:5]).status, 202)
		r = e.send(t, "PUT", withDigest(t, loc, digest.FromString(content)), auth, content[5:])
		want(t, "status of PUT with a last chunk", r.status, 201)
		want(t, "Docker-Content-Digest", r.header.Get("Docker-Content-Digest"), string(digest.FromString(content)))
		r = e.send(t, "HEAD", "/v2/"+repo+"/blobs/"+string(digest.FromString(content)), auth, nil)
		want(t, "status of HEAD", r.status, 200)
		want(t, "Content-Length", r.header.Get("Content-Length"), "11")
		r = e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(digest.FromString("all")), auth, "all")
		want(t, "status of one POST", r.status, 201)
		loc = e.send(t, "POST", "/v2/"+repo+"/blobs/uploads/", auth, nil).header.Get("Location")
		want(t, "status of DELETE", e.send(t, "DELETE", loc, auth, nil).status, 204)
		v2Error(t, e.get(t, loc, auth), 404, "BLOB_UPLOAD_UNKNOWN")
		v2Error(t, e.get(t, "/v2/"+repo+"/blobs/"+string(digest.FromString("not there")), auth), 404, "BLOB_UNKNOWN")
	}},
	{n: 50, name: "mounts", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		mount := func(from, auth string) reply {
			return e.send(t, "POST", fmt.Sprintf("/v2/%s/blobs/uploads/?mount=%s&from=%s", repo, base.Desc.Digest, url.QueryEscape(from)), auth, nil)
		}
		push := "repository:" + repo + ":pull,push"
		r := mount(e.repo("priv"), e.token(t, e.user, e.password, push))
		want(t, "status without pull on the origin", r.status, 202)
		want(t, "has a location", r.header.Get("Location") != "", true)
		want(t, "status from nowhere", mount(e.repo("nosuch"), e.token(t, e.user, e.password, push)).status, 202)
		r = mount(e.repo("priv"), e.token(t, e.user, e.password, push, "repository:"+e.repo("priv")+":pull"))
		want(t, "status with pull on the origin", r.status, 201)
		want(t, "Docker-Content-Digest", r.header.Get("Docker-Content-Digest"), string(base.Desc.Digest))
		want(t, "status from a public one", mount(e.repo("app"), e.token(t, e.user, e.password, push)).status, 201)
		r = e.send(t, "HEAD", "/v2/"+repo+"/blobs/"+string(base.Desc.Digest), e.mine(t, repo), nil)
		want(t, "status of HEAD", r.status, 200)
	}},
	{n: 51, name: "blobs come from another host", needs: fakeOnly("a storage of which the clock can be moved"), run: func(t *testing.T, e *env) {
		auth := e.token(t, e.robot, e.secret, "repository:"+e.repo("priv")+":pull")
		r := e.get(t, "/v2/"+e.repo("priv")+"/blobs/"+string(base.Desc.Digest), auth)
		want(t, "status", r.status, 302)
		want(t, "Docker-Content-Digest", r.header.Get("Docker-Content-Digest"), string(base.Desc.Digest))
		loc := r.header.Get("Location")
		if !strings.HasPrefix(loc, "http://"+e.run.StorageHost+"/") || e.run.StorageHost == e.host {
			t.Fatalf("Location: got %q, want another host than %s", loc, e.host)
		}
		want(t, "with Authorization", e.get(t, loc, auth).status, 400)
		r = e.get(t, loc, "")
		want(t, "status at the storage", r.status, 200)
		want(t, "content", r.body, string(base.Bytes))
		r = e.get(t, loc, "", "Range: bytes=3-5")
		want(t, "status of a range", r.status, 206)
		want(t, "content of a range", r.body, string(base.Bytes[3:6]))
		e.clock.add(59 * time.Second)
		want(t, "status after 59 s", e.get(t, loc, "").status, 200)
		e.clock.add(time.Second)
		want(t, "status after 60 s", e.get(t, loc, "").status, 403)
	}},
}
