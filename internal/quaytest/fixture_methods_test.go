package quaytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestBulkRepositories: as many as the largest organisation of the demo's kind
// has, in 19 pages, with the times that were asked for.
func TestBulkRepositories(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const n = 1876
	check(t, s.BulkRepositories(t.Context(), "kolla", n, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{
			Name: fmt.Sprintf("r%04d", i),
			Tags: []quaytest.BulkTag{{Name: "latest", Image: image1, Start: start.Add(time.Duration(i) * time.Hour)}},
		}
	}))
	run := s.Start()
	defer run.Close()
	e := &env{base: run.URL, host: run.Host}
	var modified []any
	for next := ""; ; {
		body := e.get(t, repositories+"?public=true&last_modified=true&namespace=kolla"+next, "").json(t)
		modified = append(modified, column(list(body, "repositories"), "last_modified")...)
		if !has(body, "next_page") {
			break
		}
		next = "&next_page=" + queryEscape(at(body, "next_page").(string))
	}
	want(t, "listing calls", s.Counts()["api.repositories"], 19)
	want(t, "repositories", len(modified), n)
	want(t, "last_modified of the last", modified[n-1], any(float64(start.Add((n-1)*time.Hour).Unix())))
	r := e.get(t, "/v2/kolla/r1875/blobs/"+string(base.Desc.Digest), "")
	want(t, "layer of the last", e.get(t, r.header.Get("Location"), "").body, string(base.Bytes))
}

// TestHistory: tags can be set as they were at any time, moved and deleted.
func TestHistory(t *testing.T) {
	e := newFakeEnv(t, quaytest.Options{})
	day := 24 * time.Hour
	now := e.now()
	check(t, e.fake.SetTag("pub/app", "v1", image2.Desc.Digest, now.Add(-3*day), now.Add(-2*day)))
	want(t, "digests of v1", column(list(e.tags(t, "pub/app", "specificTag=v1"), "tags"), "manifest_digest"),
		[]any{string(image1.Desc.Digest), string(image2.Desc.Digest)})
	check(t, e.fake.SetTag("pub/app", "new", image1.Desc.Digest, now.Add(-3*day), time.Time{}))
	check(t, e.fake.SetTag("pub/app", "new", image2.Desc.Digest, now.Add(-day), now.Add(day)))
	rows := list(e.tags(t, "pub/app", "specificTag=new"), "tags")
	want(t, "ends of new", column(rows, "end_ts"), []any{float64(now.Add(day).Unix()), float64(now.Add(-day).Unix())})
	check(t, e.fake.MoveTag("pub/app", "v2", image1.Desc.Digest))
	r := e.get(t, "/v2/pub/app/manifests/v2", "", "Accept: "+image1.Desc.MediaType)
	want(t, "digest of v2", r.header.Get("Docker-Content-Digest"), string(image1.Desc.Digest))
	for what, err := range map[string]error{
		"tag of a manifest that isn't there": e.fake.SetTag("pub/empty", "v1", image1.Desc.Digest, now, time.Time{}),
		"delete of no tag":                   e.fake.DeleteTag("pub/app", "nope"),
		"repository that is there":           e.fake.CreateRepository("pub", "app", true),
		"repository of nobody":               e.fake.CreateRepository("nobody", "app", true),
		"grant without a role":               e.fake.Grant("pub/app", "bob", "reader"),
	} {
		want(t, what+" is refused", err != nil, true)
	}
	check(t, e.fake.DeleteRepository("pub/app"))
	check(t, e.fake.CreateRepository("pub", "app", true))
	want(t, "tags of a new repository with an old name", names(e.tags(t, "pub/app", "")), nil)
	v2Error(t, e.get(t, "/v2/pub/app/manifests/"+string(image1.Desc.Digest), ""), 404, "MANIFEST_UNKNOWN")
	v2Error(t, e.get(t, "/v2/pub/app/blobs/"+string(base.Desc.Digest), ""), 404, "BLOB_UNKNOWN")
}
