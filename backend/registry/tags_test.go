package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// repository opens name at f.
func (f *far) repository(t *testing.T, name string) *registry.Repository {
	t.Helper()
	return repositoryAt(t, f.host, name, f.env())
}

func repositoryAt(t *testing.T, host, name string, env backend.Env) *registry.Repository {
	t.Helper()
	r, err := registry.OpenRepository(oci.Ref{Registry: host, Repository: name}, env)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func listTags(t *testing.T, src oci.Source) (tags []string, err error) {
	t.Helper()
	for tag, err := range src.(oci.TagLister).Tags(t.Context()) {
		if err != nil {
			return tags, err
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// A leaf is one page of a listing.
type leaf struct {
	body   string
	links  []string // Link headers; %s is the server's host
	status int      // 0 is 200
}

// leaves lets f answer with them, by the query's "last".
func (f *far) leaves(pages map[string]leaf) {
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		p, there := pages[r.URL.Query().Get("last")]
		if !there {
			return false
		}
		for _, l := range p.links {
			w.Header().Add("Link", strings.ReplaceAll(l, "HOST", f.host))
		}
		if p.status != 0 {
			return answer(w, p.status, "OF_THE_TEST")
		}
		_, _ = io.WriteString(w, p.body)
		return true
	})
}

const nine = "[1 2 3 4 5 6 7 8 9]"

func TestTagsByPages(t *testing.T) {
	const a, b, c = `{"name":"a","tags":["1","2","3"]}`, `{"name":"a","tags":["4","5","6"]}`, `{"name":"a","tags":["7","8","9"]}`
	three := func(x, y string) map[string]leaf {
		return map[string]leaf{"": {body: a, links: []string{x}}, "3": {body: b, links: []string{y}}, "6": {body: c}}
	}
	tests := []struct {
		name  string
		pages map[string]leaf
		want  string
	}{
		{"A44 three pages", three(`</v2/a/tags/list?n=3&last=3>; rel="next"`, `</v2/a/tags/list?n=3&last=6>; rel="next"`), nine},
		{"A44 an absolute Link", three(`<http://HOST/v2/a/tags/list?last=3>; rel="next"`, `<http://HOST/v2/a/tags/list?last=6>; rel="next"`), nine},
		{"a Link that is only a query", three(`<?last=3>; rel=next`, `<?last=6>;rel="prev NEXT"`), nine},
		{"a Link that names https, of a proxy that ends TLS the other way round", three(`<https://HOST/v2/a/tags/list?last=3>; rel="next"`, `<?last=6>; rel=next`), nine},
		{"several links in one header", three(`</v2/>; rel="first"; title="a, b; \"c\"", <?last=3> ; title=x ; rel="next"`, `<?last=6>; rel="next", <?last=0>; rel="prev"`), nine},
		{"several headers", map[string]leaf{"": {body: a, links: []string{`</v2/>; rel=help`, `<?last=3>; rel=next`}}, "3": {body: b}}, "[1 2 3 4 5 6]"},
		{"no next among them", map[string]leaf{"": {body: a, links: []string{`<?last=3>; rel="prev"`}}}, "[1 2 3]"},
		{"A44 null tags", map[string]leaf{"": {body: `{"name":"a","tags":null}`}}, "[]"},
		{"pages that overlap", map[string]leaf{"": {body: a, links: []string{`<?last=2>; rel=next`}}, "2": {body: `{"tags":["3","4"]}`}}, "[1 2 3 4]"},
		{"an empty page in between", map[string]leaf{"": {body: `{"tags":[]}`, links: []string{`<?last=6>; rel=next`}}, "6": {body: c}}, "[7 8 9]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			f.leaves(tt.pages)
			got, err := listTags(t, f.source(t, "a", "latest")) // what process opens has it too
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
			if n := len(f.log()); n != len(tt.pages) {
				t.Errorf("%d requests for %d pages", n, len(tt.pages))
			}
		})
	}
}

func TestTagsThatAreNotAll(t *testing.T) {
	const page = `{"tags":["1","2","3"]}`
	first := func(link string) map[string]leaf { return map[string]leaf{"": {body: page, links: []string{link}}} }
	tests := []struct {
		name  string
		pages map[string]leaf
		kind  error
		most  int // requests
	}{
		{"A44 a malformed Link", first(`/v2/a/tags/list?last=3; rel="next"`), oci.ErrIncomplete, 1},
		{"a Link without an end", first(`<?last=3`), oci.ErrIncomplete, 1},
		{"a Link with words behind it", first(`<?last=3> next`), oci.ErrIncomplete, 1},
		{"a quote without an end", first(`<?last=3>; rel="next`), oci.ErrIncomplete, 1},
		{"a Link to nowhere", first(`<>; rel="next"`), oci.ErrIncomplete, 1},
		{"A44 a Link that leads back", first(`<?n=1000>; rel="next"`), oci.ErrIncomplete, 1},
		{"A44 pages that lead in a circle", map[string]leaf{
			"":  {body: page, links: []string{`<?last=3>; rel=next`}},
			"3": {body: `{"tags":["4"]}`, links: []string{`<?n=1000>; rel=next`}},
		}, oci.ErrIncomplete, 2},
		{"a page again under another name", map[string]leaf{
			"":  {body: page, links: []string{`<?last=3>; rel=next`}},
			"3": {body: page, links: []string{`<?last=6>; rel=next`}},
		}, oci.ErrIncomplete, 2},
		{"another host", first(`<http://evil.example/v2/a/tags/list?last=3>; rel="next"`), oci.ErrIncomplete, 1},
		{"another port", first(`<http://127.0.0.1:1/v2/a/tags/list?last=3>; rel="next"`), oci.ErrIncomplete, 1},
		{"another repository", first(`</v2/b/tags/list?last=3>; rel="next"`), oci.ErrIncomplete, 1},
		{"another scheme", first(`<file:///v2/a/tags/list?last=3>; rel="next"`), oci.ErrIncomplete, 1},
		{"somebody's password", first(`<http://u:p@HOST/v2/a/tags/list?last=3>; rel="next"`), oci.ErrIncomplete, 1},
		{"500 behind the first page", map[string]leaf{"": {body: page, links: []string{`<?last=3>; rel=next`}}, "3": {status: 500}}, oci.ErrIncomplete, 2},
		{"404 behind the first page", map[string]leaf{"": {body: page, links: []string{`<?last=3>; rel=next`}}, "3": {status: 404}}, oci.ErrIncomplete, 2},
		{"no list behind the first page", map[string]leaf{"": {body: page, links: []string{`<?last=3>; rel=next`}}, "3": {body: "<html>"}}, oci.ErrIncomplete, 2},
		{"404 at once", map[string]leaf{"": {status: 404}}, oci.ErrNotFound, 1},
		{"403 at once", map[string]leaf{"": {status: 403}}, oci.ErrDenied, 1},
		{"an answer without tags", map[string]leaf{"": {body: `{"name":"a"}`}}, oci.ErrInvalid, 1},
		{"an answer that is no object", map[string]leaf{"": {body: `["1"]`}}, oci.ErrInvalid, 1},
		{"no end to the page", map[string]leaf{"": {body: `{"tags":["` + strings.Repeat("x", 33<<20) + `"]}`}}, oci.ErrTooLarge, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			f.leaves(tt.pages)
			got, err := listTags(t, f.repository(t, "a"))
			if !errors.Is(err, tt.kind) || errors.Is(err, oci.ErrIncomplete) != (tt.kind == oci.ErrIncomplete) {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
			if tt.kind == oci.ErrIncomplete && len(got) < 3 {
				t.Errorf("what came is lost: %v", got)
			}
			if n := len(f.log()); n != tt.most {
				t.Errorf("%d requests, want %d", n, tt.most)
			}
		})
	}
}

// A registry that names a next page for ever isn't followed for ever.
func TestTagsThatNeverEnd(t *testing.T) {
	f := newFar(t)
	n := 0
	f.fail(func(w http.ResponseWriter, _ *http.Request) bool {
		n++
		w.Header().Set("Link", fmt.Sprintf(`<?last=%d>; rel="next"`, n))
		_, _ = io.WriteString(w, `{"tags":[]}`)
		return true
	})
	if _, err := listTags(t, f.repository(t, "a")); !errors.Is(err, oci.ErrIncomplete) || n > 20 {
		t.Errorf("%d requests, %v", n, err)
	}
}

func TestTagsLeavesOutWhatIsNone(t *testing.T) {
	f := newFar(t)
	f.leaves(map[string]leaf{"": {body: `{"tags":["ok","../x","a b","","ok","-x","\u001b[31m","v1.0"]}`}})
	env, warned := f.env(), []string{}
	env.Warn = func(s string) { warned = append(warned, s) }
	got, err := listTags(t, repositoryAt(t, f.host, "a", env))
	if err != nil || fmt.Sprint(got) != "[ok v1.0]" {
		t.Errorf("got %v, %v", got, err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "5 names") || strings.Contains(warned[0], "\x1b") {
		t.Errorf("told %q", warned)
	}
}

func TestTagsStopsWhenAsked(t *testing.T) {
	f := newFar(t)
	f.leaves(map[string]leaf{"": {body: `{"tags":["1","2"]}`, links: []string{`<?last=2>; rel=next`}}})
	for tag, err := range f.repository(t, "a").Tags(t.Context()) {
		if tag != "1" || err != nil {
			t.Fatal(tag, err)
		}
		break
	}
	if n := len(f.log()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// tagged puts n tags of one image into a registry.
func tagged(t *testing.T, r *registry.Repository, dst oci.Destination, n int) (want []string) {
	t.Helper()
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100))
	if err := put(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want = append(want, fmt.Sprintf("v%03d", i))
		if _, err := r.Put(t.Context(), want[i], img.Desc.MediaType, img.Raw); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

// Quay gives 100 at most, whatever is asked for.
func TestTagsOfAQuay(t *testing.T) {
	s, run, _ := startQuay(t, quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100))
	if err := s.Push(t.Context(), "mirror/app", "v000", img); err != nil {
		t.Fatal(err)
	}
	for i := range 249 {
		if err := s.SetTag("mirror/app", fmt.Sprintf("v%03d", i+1), img.Desc.Digest, time.Now(), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	env := backend.Env{HTTP: client(t, transport.Options{RateLimit: new(float64)}), PlainHTTP: true}
	s.Reset()
	got, err := listTags(t, repositoryAt(t, run.Host, "mirror/app", env))
	if err != nil || len(got) != 250 || !slices.IsSorted(got) {
		t.Errorf("got %d tags, %v", len(got), err)
	}
	if n := s.Counts()["v2.tags"]; n != 3 {
		t.Errorf("%d pages: %v", n, s.Counts())
	}
	_, err = listTags(t, repositoryAt(t, run.Host, "mirror/none", env))
	if !errors.Is(err, oci.ErrDenied) || errors.Is(err, oci.ErrIncomplete) {
		t.Errorf("what isn't there, to a stranger: %v", err)
	}
}

// A registry that pages by what is asked for, and one that takes no more than so
// many names at once.
func TestTagsOfOtherRegistries(t *testing.T) {
	for name, o := range map[string]*ociserver.Options{"as many as are asked for": nil, "1000 at most": {MaxListPageSize: 1000}} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.next = ociserver.New(ocimem.New(), o)
			want := append([]string{"latest"}, tagged(t, f.repository(t, "a"), f.destination(t, "a", "latest"), 30)...)
			f.log()
			got, err := listTags(t, f.repository(t, "a"))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
			if n := len(f.log()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}
