package quay_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// list reads the repositories of o to the end.
func list(t *testing.T, c *quay.Client, opt quay.RepositoryOptions) (names []string, err error) {
	t.Helper()
	for r, err := range c.Repositories(t.Context(), "o", opt) {
		if err != nil {
			return names, err
		}
		names = append(names, r.Name)
	}
	return names, nil
}

// Filters are not in the page token, so each page has them, and the token is escaped.
func TestRepositoriesPages(t *testing.T) {
	const token = "gAA+/ab=&x=1"
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked = append(asked, fmt.Sprint(r.URL.Path, q["namespace"], q["public"], q["last_modified"], q["next_page"], q["x"]))
		if q.Get("next_page") == "" {
			_, _ = io.WriteString(w, `{"repositories":[{"namespace":"o","name":"b","description":null,"is_public":true,"kind":"image","state":"NORMAL","last_modified":1774047466,"new":{}},
				{"namespace":"o","name":"a/b","is_public":false,"kind":"image","state":null,"last_modified":null}],"next_page":`+toJSON(token)+`}`)
			return
		}
		_, _ = io.WriteString(w, `{"repositories":[{"namespace":"o","name":"c"},{"namespace":"o","name":"helm","kind":"application"}]}`)
	})
	var got []quay.Repository
	for r, err := range c.Repositories(t.Context(), "o", quay.RepositoryOptions{LastModified: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	want := []quay.Repository{
		{Namespace: "o", Name: "b", Public: true, State: "NORMAL", LastModified: time.Unix(1774047466, 0).UTC()},
		{Namespace: "o", Name: "a/b"},
		{Namespace: "o", Name: "c"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	wantAsked := []string{"/api/v1/repository[o] [true] [true] [] []", "/api/v1/repository[o] [true] [true] [" + token + "] []"}
	if fmt.Sprint(asked) != fmt.Sprint(wantAsked) {
		t.Errorf("asked %q, want %q", asked, wantAsked)
	}
}

func TestRepositoriesThatNeverEnd(t *testing.T) {
	page := func(next string, names ...string) string {
		var entries []map[string]string
		for _, n := range names {
			entries = append(entries, map[string]string{"namespace": "o", "name": n})
		}
		return toJSON(map[string]any{"repositories": append([]map[string]string{}, entries...), "next_page": next})
	}
	tests := []struct {
		name  string
		pages []string // the last is given for ever
		want  string   // names before the error
	}{
		{"the first page again", []string{page("t1", "a", "b"), page("t2", "a", "b")}, "[a b]"},
		{"the same token", []string{page("t", "a"), page("t", "b")}, "[a b]"},
		{"two tokens in turn", []string{page("t", "a"), page("u", "b"), page("t", "c")}, "[a b c]"},
		{"one repository again", []string{page("t", "a", "b"), page("", "b", "c")}, "[a b]"},
		{"empty pages", []string{page("t", "a"), page("u"), page("v")}, "[a]"},
		{"an error", []string{page("t", "a"), "x"}, "[a]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, tt.pages[min(n, len(tt.pages)-1)])
				n++
			})
			got, err := list(t, c, quay.RepositoryOptions{})
			if !errors.Is(err, oci.ErrIncomplete) || fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, %v, want %v and an incomplete listing", got, err, tt.want)
			}
		})
	}
}

func TestRepositoriesFirstPageFails(t *testing.T) {
	_, err := list(t, serve(t, reply(500, `{"message":"no"}`)), quay.RepositoryOptions{})
	if err == nil || errors.Is(err, oci.ErrIncomplete) || !strings.Contains(err.Error(), "GET /api/v1/repository: 500") {
		t.Errorf("got %v", err)
	}
}

func TestRepositoriesSkipsWhatIsNoName(t *testing.T) {
	var skipped []string
	c := serve(t, reply(200, `{"repositories":[{"namespace":"o","name":"../../etc"},{"namespace":"o","name":"A\u001b[0m"},{"namespace":"o"},{"namespace":"p","name":"x"},{"name":"ok"},{"namespace":"o","name":"a//b"}]}`))
	got, err := list(t, c, quay.RepositoryOptions{Skipped: func(err error) {
		if !errors.Is(err, oci.ErrInvalid) {
			t.Error(err)
		}
		skipped = append(skipped, err.Error())
	}})
	if err != nil || fmt.Sprint(got) != "[ok]" || len(skipped) != 5 {
		t.Errorf("got %v, %v, skipped %q", got, err, skipped)
	}
	if strings.Contains(strings.Join(skipped, ""), "\x1b") {
		t.Errorf("%q would reach a terminal", skipped)
	}
	if got, err := list(t, c, quay.RepositoryOptions{}); err != nil || fmt.Sprint(got) != "[ok]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestRepositoriesNamespace(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("requested %s", r.URL) })
	for _, ns := range []string{"", "a/b", "A", "a b", "..", "a\n"} {
		for _, err := range c.Repositories(t.Context(), ns, quay.RepositoryOptions{}) {
			if !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%q: %v", ns, err)
			}
		}
	}
}

// A consumer that stops asks for no further page.
func TestRepositoriesStopsEarly(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		_, _ = fmt.Fprintf(w, `{"repositories":[{"name":"r%d"}],"next_page":"%d"}`, n, n)
	})
	for range c.Repositories(t.Context(), "o", quay.RepositoryOptions{}) {
		break
	}
	if n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestRepositoryDetail(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/api/v1/repository/o/a/b?includeTags=false" {
			t.Errorf("asked %s", r.URL)
		}
		_, _ = io.WriteString(w, `{"namespace":"o","name":"a/b","is_public":true,"can_write":true,"tag_expiration_s":1209600,"state":"READ_ONLY","description":""}`)
	})
	got, err := c.Repository(t.Context(), "o/a/b")
	want := quay.RepositoryDetail{Repository: quay.Repository{Namespace: "o", Name: "a/b", Public: true, State: "READ_ONLY"}, CanWrite: true, Restorable: 14 * 24 * time.Hour}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestWrites(t *testing.T) {
	type call func(c *quay.Client) error
	create := func(c *quay.Client) error { return c.CreateRepository(t.Context(), "o/a/b", quay.Private) }
	change := func(c *quay.Client) error { return c.ChangeVisibility(t.Context(), "o/a/b", quay.Public) }
	tests := []struct {
		name   string
		do     call
		status int
		body   string
		want   error
	}{
		{"created", create, 201, `{"namespace":"o","name":"a/b","kind":"image"}`, nil},
		{"there already", create, 400, `{"detail":"Repository already exists","error_type":"invalid_request"}`, quay.ErrExists},
		{"no token", create, 403, `{"error":"CSRF token was invalid or missing."}`, oci.ErrDenied},
		{"changed", change, 200, `{"success": true}`, nil},
		{"not there", change, 200, "null\n", oci.ErrNotFound},
		{"no right", change, 403, `{"detail":"Unauthorized","error_type":"insufficient_scope"}`, oci.ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			if err := tt.do(c); !errors.Is(err, tt.want) || quay.NotVisible(err) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			want := `POST /api/v1/repository application/json {"description":"","namespace":"o","repository":"a/b","visibility":"private"}`
			if fmt.Sprintf("%p", tt.do) == fmt.Sprintf("%p", change) {
				want = `POST /api/v1/repository/o/a/b/changevisibility application/json {"visibility":"public"}`
			}
			if got != want {
				t.Errorf("sent %s, want %s", got, want)
			}
		})
	}
}
