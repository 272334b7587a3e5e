package quaytest_test

import (
	"strings"
	"testing"
)

// tags asks for the tags of a repository of the fixture, or of a scratch one.
func (e *env) tags(t *testing.T, repo, query string) any {
	t.Helper()
	r := e.get(t, api(repo)+"/tag/?"+query, "")
	want(t, "status of "+query, r.status, 200)
	return r.json(t)
}

func names(body any) (names []string) {
	for _, n := range column(list(body, "tags"), "name") {
		names = append(names, n.(string))
	}
	return names
}

var tagListCases = []contractCase{
	{n: 20, name: "one living tag", run: func(t *testing.T, e *env) {
		body := e.tags(t, e.repo("app"), "specificTag=v1&onlyActiveTags=true&limit=1")
		want(t, "names", names(body), []string{"v1"})
		want(t, "page", at(body, "page"), any(1.0))
		want(t, "has_additional", at(body, "has_additional"), any(false))
		row := at(body, "tags", 0)
		if lm, _ := at(row, "last_modified").(string); !strings.HasSuffix(lm, " -0000") {
			t.Errorf("last_modified: got %q", lm)
		}
		want(t, "manifest_digest", at(row, "manifest_digest"), any(string(image1.Desc.Digest)))
		want(t, "reversion", at(row, "reversion"), any(false))
		want(t, "has end_ts", has(row, "end_ts"), false)
		want(t, "has docker_image_id", has(row, "docker_image_id"), false)
		size := 0.0
		for d, b := range image1.Blobs {
			if !strings.Contains(string(b), "rootfs") { // the config isn't counted
				size += float64(len(image1.Blobs[d]))
			}
		}
		want(t, "size", at(row, "size"), any(size))
	}},
	{n: 21, name: "no such tag", run: func(t *testing.T, e *env) {
		want(t, "tags", at(e.tags(t, e.repo("app"), "specificTag=nope"), "tags"), any([]any{}))
	}},
	{n: 22, name: "pages", run: func(t *testing.T, e *env) {
		for _, c := range []struct {
			query string
			n     int
			more  bool
		}{{"limit=500", 100, true}, {"limit=500&page=2", 20, false}, {"limit=500&page=9", 0, false}, {"", 50, true}} {
			body := e.tags(t, e.repo("many"), c.query)
			want(t, c.query+": rows", len(list(body, "tags")), c.n)
			want(t, c.query+": has_additional", at(body, "has_additional"), any(c.more))
		}
	}},
	{n: 23, name: "limits are clamped", run: func(t *testing.T, e *env) {
		want(t, "rows of limit=0", len(list(e.tags(t, e.repo("many"), "limit=0"), "tags")), 1)
		want(t, "page of page=-3", at(e.tags(t, e.repo("many"), "page=-3"), "page"), any(1.0))
		r := e.get(t, api(e.repo("many"))+"/tag/?limit=abc", "")
		want(t, "status of limit=abc", r.status, 400)
		want(t, "body of limit=abc", r.json(t), any(map[string]any{
			"message": map[string]any{"limit": "Limit to the number of results to return per page. Max 100."},
		}))
	}},
	{n: 24, name: "filters", run: func(t *testing.T, e *env) {
		app := e.repo("app")
		want(t, "eq:v1", names(e.tags(t, app, "filter_tag_name=eq:v1")), []string{"v1"})
		want(t, "like:v", len(names(e.tags(t, app, "filter_tag_name=like:v"))), 2)
		want(t, "re:v1", len(names(e.tags(t, app, "filter_tag_name=re:v1"))), len(fixture[0].tags))
		r := e.get(t, api(app)+"/tag/?filter_tag_name=v1", "")
		want(t, "status without a colon", r.status, 400)
		want(t, "message without a colon", at(r.json(t), "message"),
			any("Unsupported syntax for filter_tag_name. Expected <operation>:<tag_name> where <operation>can be 'like' or 'eq'."))
	}},
	{n: 25, name: "history of a tag that moved", run: func(t *testing.T, e *env) {
		repo := e.scratch(t)
		e.push(t, repo, "v1", image1)
		e.push(t, repo, "v1", image2)
		body := e.tags(t, repo, "specificTag=v1")
		want(t, "digests", column(list(body, "tags"), "manifest_digest"), []any{string(image2.Desc.Digest), string(image1.Desc.Digest)})
		want(t, "newer has end_ts", has(at(body, "tags", 0), "end_ts"), false)
		if end, ok := at(body, "tags", 1, "end_ts").(float64); !ok || int64(end) > e.now().Unix() {
			t.Errorf("end_ts of the older: got %v, want at most %d", at(body, "tags", 1, "end_ts"), e.now().Unix())
		}
		want(t, "alive", len(names(e.tags(t, repo, "specificTag=v1&onlyActiveTags=true"))), 1)
	}},
	{n: 26, name: "an index", run: func(t *testing.T, e *env) {
		row := at(e.tags(t, e.repo("app"), "specificTag=multi"), "tags", 0)
		want(t, "is_manifest_list", at(row, "is_manifest_list"), any(true))
		want(t, "has size", has(row, "size"), true)
		want(t, "size", at(row, "size"), nil)
	}},
	{n: 27, name: "one tag can't be asked for", run: func(t *testing.T, e *env) {
		apiError(t, e.get(t, api(e.repo("app"))+"/tag/v1", ""), 401, "invalid_token", "Requires authentication")
	}},
}
