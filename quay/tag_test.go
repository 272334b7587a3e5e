package quay_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

func tagJSON(name string, start, end int64) map[string]any {
	m := map[string]any{"name": name, "start_ts": start, "manifest_digest": digest1, "is_manifest_list": false, "size": 5}
	if end != 0 {
		m["end_ts"] = end
	}
	return m
}

func tagsOf(t *testing.T, c *quay.Client, opt quay.TagOptions) (names []string, err error) {
	t.Helper()
	for tag, err := range c.Tags(t.Context(), "o/a/b", opt) {
		if err != nil {
			return names, err
		}
		names = append(names, tag.Name)
	}
	return names, nil
}

// Pages of 100; a push between two of them moves an entry, which then comes twice.
func TestTagsPages(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		var page []any
		switch r.URL.Query().Get("page") {
		case "":
			page = []any{tagJSON("c", 30, 0), tagJSON("b", 20, 0)}
		case "2":
			page = []any{tagJSON("b", 20, 0), tagJSON("a", 10, 0)}
		}
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": append([]any{}, page...), "page": 1, "has_additional": true}))
	})
	got, err := tagsOf(t, c, quay.TagOptions{})
	if err != nil || fmt.Sprint(got) != "[c b a]" {
		t.Errorf("got %v, %v", got, err)
	}
	want := "[/api/v1/repository/o/a/b/tag/?limit=100&onlyActiveTags=true /api/v1/repository/o/a/b/tag/?limit=100&onlyActiveTags=true&page=2 /api/v1/repository/o/a/b/tag/?limit=100&onlyActiveTags=true&page=3 /api/v1/repository/o/a/b/tag/?limit=100&onlyActiveTags=true]"
	if fmt.Sprint(asked) != want {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

// A tag that moves from a page to come to the first, which was read before.
func TestTagsThatMoveMeanwhile(t *testing.T) {
	var tags []any
	for i := range int64(150) {
		tags = append(tags, tagJSON(fmt.Sprint("t", i), 1000-i, 0))
	}
	asked := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 2 {
			tags = slices.Concat([]any{tagJSON("t120", 2000, 0)}, tags[:120], tags[121:])
		}
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := 100 * max(page-1, 0)
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": tags[from:min(from+100, 150)], "has_additional": from == 0}))
	})
	got, err := tagsOf(t, c, quay.TagOptions{})
	if err != nil || len(got) != 150 || !slices.Contains(got, "t120") || asked != 3 {
		t.Errorf("got %d tags, %v, in %d requests; t120: %v", len(got), err, asked, slices.Contains(got, "t120"))
	}
}

// A server that once starts over, and then has nothing more, has hidden a page.
func TestTagsOfAPageTwice(t *testing.T) {
	var tags []any
	for i := range int64(250) {
		tags = append(tags, tagJSON(fmt.Sprint("t", i), 1000-i, 0))
	}
	asked := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		pages := map[int][]any{1: tags[:100], 2: tags[:100]}
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": append([]any{}, pages[asked]...), "has_additional": asked < 3}))
	})
	if got, err := tagsOf(t, c, quay.TagOptions{}); !errors.Is(err, oci.ErrIncomplete) {
		t.Errorf("got %d tags, %v, want an incomplete listing", len(got), err)
	}
}

func TestTagsThatNeverEnd(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": []any{tagJSON("a", 1, 0)}, "has_additional": true}))
	})
	got, err := tagsOf(t, c, quay.TagOptions{})
	if !errors.Is(err, oci.ErrIncomplete) || fmt.Sprint(got) != "[a]" || n > 4 {
		t.Errorf("got %v, %v after %d requests", got, err, n)
	}
}

func TestTagsDropsTheDead(t *testing.T) {
	now := time.Now().Unix()
	body := toJSON(map[string]any{"tags": []any{tagJSON("dead", 10, now-5), tagJSON("expires", 10, now+3600), tagJSON("lives", 10, 0)}})
	c := serve(t, reply(200, body))
	for opt, want := range map[bool]string{false: "[expires lives]", true: "[dead expires lives]"} {
		if got, err := tagsOf(t, c, quay.TagOptions{History: opt}); err != nil || fmt.Sprint(got) != want {
			t.Errorf("history %v: got %v, %v, want %v", opt, got, err, want)
		}
	}
}

// What has ended is told by the server's clock.
func TestTagsUsesTheServersClock(t *testing.T) {
	day := time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", day.Format(http.TimeFormat))
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": []any{tagJSON("dead", 10, day.Unix()), tagJSON("lives", 10, day.Unix()+1)}}))
	})
	if got, err := tagsOf(t, c, quay.TagOptions{}); err != nil || fmt.Sprint(got) != "[lives]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTagsSkipsWhatIsNone(t *testing.T) {
	skipped := 0
	bad := tagJSON("ok", 10, 0)
	bad["manifest_digest"] = "sha256:../x"
	none := tagJSON("none", 10, 0)
	delete(none, "manifest_digest")
	c := serve(t, reply(200, toJSON(map[string]any{"tags": []any{tagJSON("-x", 10, 0), tagJSON("a/b", 10, 0), bad, none, tagJSON("fine", 10, 0)}})))
	got, err := tagsOf(t, c, quay.TagOptions{Skipped: func(err error) {
		if skipped++; !errors.Is(err, oci.ErrInvalid) {
			t.Error(err)
		}
	}})
	if err != nil || fmt.Sprint(got) != "[fine]" || skipped != 4 {
		t.Errorf("got %v, %v, %d skipped", got, err, skipped)
	}
}

func TestTagFields(t *testing.T) {
	tests := []struct {
		name, in string
		want     quay.Tag
	}{
		{"image", `"start_ts":1774047466,"size":12,"is_manifest_list":false,"last_modified":"Fri, 20 Mar 2026 22:57:46 -0000","reversion":true`,
			quay.Tag{Start: time.Unix(1774047466, 0).UTC(), Size: 12, Reversion: true}},
		{"index", `"start_ts":1774047466,"end_ts":33000000000,"size":null,"is_manifest_list":true,"is_sparse":false,"child_manifests_presence":{"x":true}`,
			quay.Tag{Start: time.Unix(1774047466, 0).UTC(), End: time.Unix(33000000000, 0).UTC(), Size: -1, IsIndex: true}},
		{"nothing", `"x":1`, quay.Tag{Size: -1}},
		{"numbers in other forms", `"start_ts":"1774047466","size":12.0`, quay.Tag{Start: time.Unix(1774047466, 0).UTC(), Size: 12}},
		{"numbers that are none", `"start_ts":1e300,"size":-4,"end_ts":[]`, quay.Tag{Size: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Name, tt.want.Digest = "v1", digest1
			c := serve(t, reply(200, `{"tags":[{"name":"v1","manifest_digest":"`+digest1+`",`+tt.in+`}]}`))
			if got, err := c.Tag(t.Context(), "o/r", "v1"); err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestTag(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("limit") != "1" || q.Get("onlyActiveTags") != "true" {
			t.Errorf("asked %s", r.URL)
		}
		tags := []any{}
		switch name := q.Get("specificTag"); name {
		case "v1":
			tags = append(tags, tagJSON(name, 10, 0))
		case "other":
			tags = append(tags, tagJSON("another", 10, 0))
		case "broken":
			tags = append(tags, map[string]any{"name": name})
		case "private":
			w.WriteHeader(401)
			return
		}
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": tags}))
	})
	tests := []struct {
		tag    string
		kind   error
		hidden bool
	}{
		{"v1", nil, false},
		{"none", oci.ErrNotFound, false},
		{"other", oci.ErrInvalid, false},
		{"broken", oci.ErrInvalid, false},
		{"private", oci.ErrDenied, true},
	}
	for _, tt := range tests {
		if _, err := c.Tag(t.Context(), "o/r", tt.tag); !errors.Is(err, tt.kind) || quay.NotVisible(err) != tt.hidden {
			t.Errorf("%s: got %v, want %v", tt.tag, err, tt.kind)
		}
	}
}

// A caller that has enough doesn't cost another page.
func TestTagPagesStopsEarly(t *testing.T) {
	n := int64(0)
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": []any{tagJSON("t"+strconv.FormatInt(n, 10), n, 0)}, "has_additional": true}))
	})
	for range c.TagPages(t.Context(), "o/r", quay.TagOptions{}) {
		break
	}
	if n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestTagsErrorBehindTheFirstPage(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n > 1 {
			w.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(w, toJSON(map[string]any{"tags": []any{tagJSON("a", 1, 0)}, "has_additional": true}))
	})
	if got, err := tagsOf(t, c, quay.TagOptions{}); !errors.Is(err, oci.ErrIncomplete) || fmt.Sprint(got) != "[a]" {
		t.Errorf("got %v, %v", got, err)
	}
}
