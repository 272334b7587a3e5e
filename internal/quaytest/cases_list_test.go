package quaytest_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

const repositories = "/api/v1/repository"

// ours gives the rows of a listing that are of our fixture, by their names
// without the prefix; scratch repositories left out.
func (e *env) ours(t *testing.T, r reply) (names []string, rows []any) {
	t.Helper()
	want(t, "status", r.status, 200)
	for _, row := range list(r.json(t), "repositories") {
		name, ok := strings.CutPrefix(at(row, "name").(string), e.prefix)
		if ok && at(row, "namespace") == e.org && !strings.HasPrefix(name, "scratch-") {
			names, rows = append(names, name), append(rows, row)
		}
	}
	return names, rows
}

func (e *env) row(t *testing.T, r reply, name string) any {
	t.Helper()
	names, rows := e.ours(t, r)
	for i := range names {
		if names[i] == name {
			return rows[i]
		}
	}
	t.Fatalf("%s isn't listed in %s", name, r.body)
	return nil
}

func invalidRequest(t *testing.T, r reply) {
	t.Helper()
	body := r.json(t)
	want(t, "status", r.status, 400)
	want(t, "error_type", at(body, "error_type"), any("invalid_request"))
	want(t, "status in the body", at(body, "status"), any(400.0))
	if typ, _ := at(body, "type").(string); !strings.HasSuffix(typ, "/api/v1/error/invalid_request") {
		t.Errorf("type: got %q", typ)
	}
}

func bigOrg(e *env) string {
	if e.big == "" {
		return "an organisation of 250 public repositories (QUAYTEST_BIG_ORG)"
	}
	return ""
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

var publicNames = []string{"app", "team/svc", "empty", "many"}

var listCases = []contractCase{
	{n: 1, name: "a listing of nothing", run: func(t *testing.T, e *env) {
		invalidRequest(t, e.get(t, repositories, ""))
	}},
	{n: 2, name: "anonymous, not public", run: func(t *testing.T, e *env) {
		r := e.get(t, repositories+"?namespace="+e.org, "")
		want(t, "status", r.status, 200)
		want(t, "body", r.json(t), any(map[string]any{"repositories": []any{}}))
	}},
	{n: 3, name: "anonymous, public, in order of creation", run: func(t *testing.T, e *env) {
		names, rows := e.ours(t, e.get(t, repositories+"?namespace="+e.org+"&public=true", ""))
		want(t, "names", names, publicNames)
		for _, row := range rows {
			for _, key := range []string{"last_modified", "popularity", "is_starred"} {
				want(t, "has "+key, has(row, key), false)
			}
			want(t, "is_public", at(row, "is_public"), any(true))
			want(t, "kind", at(row, "kind"), any("image"))
			want(t, "state", at(row, "state"), any("NORMAL"))
		}
	}},
	{n: 4, name: "last_modified is the newest living tag", run: func(t *testing.T, e *env) {
		r := e.get(t, repositories+"?namespace="+e.org+"&public=true&last_modified=true", "")
		tags := e.get(t, api(e.repo("app"))+"/tag/?onlyActiveTags=true", "").json(t)
		newest := 0.0
		for _, ts := range column(list(tags, "tags"), "start_ts") {
			newest = max(newest, ts.(float64))
		}
		want(t, "last_modified of app", at(e.row(t, r, "app"), "last_modified"), any(newest))
		empty := e.row(t, r, "empty")
		want(t, "last_modified of empty", at(empty, "last_modified"), nil)
		want(t, "has last_modified", has(empty, "last_modified"), true)
	}},
	{n: 5, name: "an admin sees private ones and stars", run: func(t *testing.T, e *env) {
		names, rows := e.ours(t, e.get(t, repositories+"?namespace="+e.org+"&public=true", "Bearer "+e.admin))
		want(t, "names", names, []string{"app", "team/svc", "empty", "priv", "many"})
		for _, row := range rows {
			want(t, "has is_starred", has(row, "is_starred"), true)
		}
	}},
	{n: 6, name: "bad credentials see what nobody sees", run: func(t *testing.T, e *env) {
		auths := map[string]string{
			"garbage": "Bearer garbage", "robot": "Bearer " + e.secret, "basic": basic(e.robot, e.secret), "expired": "Bearer " + e.expired,
		}
		if e.expired == "" {
			t.Log("expired token: not run: needs QUAYTEST_EXPIRED_TOKEN")
			delete(auths, "expired")
		}
		for who, auth := range auths {
			names, rows := e.ours(t, e.get(t, repositories+"?namespace="+e.org+"&public=true", auth))
			want(t, who+": names", names, publicNames)
			want(t, who+": has is_starred", has(rows[0], "is_starred"), false)
		}
	}},
	{n: 7, name: "no such namespace", run: func(t *testing.T, e *env) {
		r := e.get(t, repositories+"?public=true&namespace=nosuch"+e.prefix, "")
		want(t, "status", r.status, 200)
		want(t, "body", r.json(t), any(map[string]any{"repositories": []any{}}))
	}},
	{n: 8, name: "pages of a hundred", needs: bigOrg, run: func(t *testing.T, e *env) {
		seen, sizes, next := map[any]bool{}, []int{}, ""
		for {
			r := e.get(t, repositories+"?public=true&namespace="+e.big+next, "")
			want(t, "status", r.status, 200)
			body := r.json(t)
			names := column(list(body, "repositories"), "name")
			sizes = append(sizes, len(names))
			for _, n := range names {
				if seen[n] {
					t.Errorf("%v is listed twice", n)
				}
				seen[n] = true
			}
			if !has(body, "next_page") {
				break
			}
			next = "&next_page=" + queryEscape(at(body, "next_page").(string))
		}
		want(t, "sizes", sizes, []int{100, 100, 50})
	}},
	{n: 9, name: "a page token holds no filters", needs: bigOrg, run: func(t *testing.T, e *env) {
		token := at(e.get(t, repositories+"?public=true&namespace="+e.big, "").json(t), "next_page").(string)
		invalidRequest(t, e.get(t, repositories+"?next_page="+queryEscape(token), ""))
	}},
	{n: 10, name: "a bad page token is the first page", needs: bigOrg, run: func(t *testing.T, e *env) {
		first := list(e.get(t, repositories+"?public=true&namespace="+e.big, "").json(t), "repositories")
		bogus := e.get(t, repositories+"?public=true&next_page=bogus&namespace="+e.big, "")
		want(t, "status", bogus.status, 200)
		want(t, "rows", list(bogus.json(t), "repositories"), first)
	}},
	{n: 11, name: "starred tells good tokens from bad ones", run: func(t *testing.T, e *env) {
		for who, auth := range map[string]string{"nobody": "", "robot": "Bearer " + e.secret, "garbage": "Bearer garbage"} {
			r := e.get(t, repositories+"?starred=true", auth)
			want(t, who+": status", r.status, 400)
			want(t, who+": has message", has(r.json(t), "message"), true)
		}
		want(t, "user: status", e.get(t, repositories+"?starred=true", "Bearer "+e.other).status, 200)
	}},
	{n: 12, name: "booleans", run: func(t *testing.T, e *env) {
		names, _ := e.ours(t, e.get(t, repositories+"?public=no&namespace="+e.org, ""))
		want(t, "public=no", names, publicNames)
		names, _ = e.ours(t, e.get(t, repositories+"?public=0&namespace="+e.org, ""))
		want(t, "public=0", names, nil)
	}},
}
