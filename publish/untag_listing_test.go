package publish_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// deletions are the verbs that delete, each such that it would delete something.
var deletions = map[string]func(ctx context.Context, p *publish.Publisher, repo oci.Ref) (*publish.Report, error){
	"untag": func(ctx context.Context, p *publish.Publisher, repo oci.Ref) (*publish.Report, error) {
		repo.Tag = "t0"
		return p.Untag(ctx, []oci.Ref{repo}, publish.UntagOptions{RemoveLast: true, IgnoreMissing: true})
	},
	"clear": func(ctx context.Context, p *publish.Publisher, repo oci.Ref) (*publish.Report, error) {
		return p.Clear(ctx, []oci.Ref{repo}, publish.ClearOptions{})
	},
	"remove": func(ctx context.Context, p *publish.Publisher, repo oci.Ref) (*publish.Report, error) {
		return p.Remove(ctx, []oci.Ref{repo})
	},
}

// bent answers a request as the registry does, with edit applied to the body.
func bent(w http.ResponseWriter, r *http.Request, next http.Handler, edit func(string) string) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	body := edit(rec.Body.String())
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(rec.Code)
	_, _ = io.WriteString(w, body)
}

// Whatever is wrong with what a registry tells, nothing is deleted, in no repository
// and by no verb, and the error is what the program ends with status 3 for.
func TestListingsThatAreNotWhole(t *testing.T) {
	listing := func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/tags/list") || strings.HasSuffix(r.URL.Path, "/tag/") && r.URL.Query().Get("specificTag") == ""
	}
	later := func(r *http.Request) bool {
		return listing(r) && (r.URL.Query().Get("last") != "" || r.URL.Query().Get("page") != "")
	}
	status := func(when func(*http.Request) bool, code int) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return when(r) && answer(w, code, "UNKNOWN")
		}
	}
	faults := map[string]func(w http.ResponseWriter, r *http.Request, next http.Handler) (done bool){
		"429":            status(listing, http.StatusTooManyRequests),
		"500":            status(listing, http.StatusInternalServerError),
		"503":            status(listing, http.StatusServiceUnavailable),
		"401":            status(listing, http.StatusUnauthorized),
		"429 on page 2":  status(later, http.StatusTooManyRequests),
		"502 on page 2":  status(later, http.StatusBadGateway),
		"404 on page 2":  status(later, http.StatusNotFound),
		"no list at all": status(listing, http.StatusOK),
		"the first page always": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if !later(r) {
				return false
			}
			q := r.URL.Query()
			q.Del("last")
			q.Set("page", "1")
			r.URL.RawQuery = q.Encode()
			next.ServeHTTP(w, r)
			return true
		},
		"an answer that breaks off": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if !later(r) {
				return false
			}
			bent(w, r, next, func(s string) string { return s[:len(s)/2] })
			return true
		},
		"a name that can't be a tag": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if !later(r) {
				return false
			}
			bent(w, r, next, func(s string) string { return strings.Replace(s, `"t9`, `"-/t9`, 1) })
			return true
		},
		"a page without tags": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if !later(r) {
				return false
			}
			bent(w, r, next, func(string) string { return `{"has_additional": true}` })
			return true
		},
	}
	for _, api := range []bool{true, false} {
		for name, fault := range faults {
			for verb, do := range deletions {
				if verb == "remove" && !api {
					continue // only the API can
				}
				t.Run(fmt.Sprintf("%s, %s, by the API: %v", verb, name, api), func(t *testing.T) {
					t.Parallel() // a 429 holds the host back for a while
					p := quayPlace(t, quaytest.Options{TagCache: -1}, api)
					c := newCast()
					for i := range 120 {
						p.push(fmt.Sprintf("name/repo:t%d", i), c.image("amd64=all"))
					}
					next := p.counting(p.quay)
					p.on(func(w http.ResponseWriter, r *http.Request) bool { return fault(w, r, next) })
					pub := p.publisher()
					pub.Yes = true
					_, err := do(t.Context(), pub, p.ref("name/repo"))
					is(t, err, oci.ErrIncomplete, oci.ErrRefused)
					p.wantDeletes()
					p.on(nil)
					if there := p.tags("name/repo", "t0", "t119"); there != "t0 t119" {
						t.Errorf("there are %s", there)
					}
					pub.DryRun = true
					if _, err := do(t.Context(), pub, p.ref("name/repo")); err != nil {
						t.Errorf("without the fault: %v", err)
					}
				})
			}
		}
	}
}

// What can't be known about the manifests keeps everything as well.
func TestContentThatCanNotBeRead(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		list, _ := p.fill("name/repo")
		for name, hit := range map[string]func(*http.Request) bool{
			"a list of platforms": func(r *http.Request) bool {
				return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/"+string(list.Desc.Digest))
			},
			"referrers": func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/referrers/") },
		} {
			t.Run(name, func(t *testing.T) {
				p.on(func(w http.ResponseWriter, r *http.Request) bool {
					return hit(r) && answer(w, http.StatusBadGateway, "UNKNOWN")
				})
				_, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1", "name/repo:2"), publish.UntagOptions{RemoveLast: true})
				is(t, err, oci.ErrIncomplete, oci.ErrRefused)
				p.wantDeletes()
			})
		}
	})
}

// Quay's list may be two minutes old for who has no token of its API. That one tag
// is missing from it shows that others may be.
func TestListThatIsOld(t *testing.T) {
	p := quayPlace(t, quaytest.Options{}, false)
	p.fill("name/repo")
	pub := p.publisher()
	pub.DryRun = true
	if _, err := pub.Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{}); err != nil {
		t.Fatal(err) // it has filled Quay's cache
	}
	p.push("name/repo:new", newCast().image("amd64=new"))
	pub.DryRun = false
	_, err := pub.Untag(t.Context(), p.refs("name/repo:new"), publish.UntagOptions{RemoveLast: true})
	is(t, err, oci.ErrIncomplete, oci.ErrRefused)
	p.wantDeletes()
}

// Pages are offsets: what is deleted while a listing is read moves another tag from
// the page to come to the one that was read. Such a tag is missed, and its image
// would lose what is about it.
func TestTagsThatMoveBetweenPages(t *testing.T) {
	var ticks atomic.Int64
	began := time.Now()
	clock := func() time.Time { return began.Add(time.Duration(ticks.Add(1)) * 10 * time.Millisecond) }
	p := quayPlace(t, quaytest.Options{TagCache: -1, Now: clock}, true)
	c := newCast()
	shared := c.image("amd64=shared")
	sig, sigImg := about(shared.Desc.Digest, ".sig")
	p.push("name/repo:"+sig, sigImg) // the oldest: last of the list
	p.push("name/repo:v0", shared)
	for i := range 99 {
		p.push(fmt.Sprintf("name/repo:t%d", i), c.image("amd64=other"))
	}
	p.push("name/repo:v1", shared)
	shrink := func(r *http.Request) bool {
		if r.URL.Query().Get("page") == "2" {
			_ = p.quay.DeleteTag("name/repo", "t1") // the second time it is gone
		}
		return false
	}
	for verb, do := range map[string]func(pub *publish.Publisher) (*publish.Report, error){
		"untag": func(pub *publish.Publisher) (*publish.Report, error) {
			return pub.Untag(t.Context(), p.refs("name/repo:v1"), publish.UntagOptions{RemoveLast: true})
		},
		"clear": func(pub *publish.Publisher) (*publish.Report, error) {
			return pub.Clear(t.Context(), p.refs("name/repo"), publish.ClearOptions{KeepTags: []string{"v0"}})
		},
	} {
		t.Run(verb, func(t *testing.T) {
			p.push("name/repo:t1", c.image("amd64=other"))
			p.on(func(_ http.ResponseWriter, r *http.Request) bool { return shrink(r) })
			pub := p.publisher()
			pub.Yes = true
			_, err := do(pub)
			is(t, err, oci.ErrIncomplete, oci.ErrRefused)
			p.wantDeletes()
			p.means("name/repo:"+sig, sigImg)
		})
	}
}

// What asks for nothing but patience is asked for again: the transport's retries
// outlast it.
func TestListingsThatRecover(t *testing.T) {
	p := quayPlace(t, quaytest.Options{TagCache: -1}, true)
	p.fill("name/repo")
	failed := false
	p.on(func(w http.ResponseWriter, r *http.Request) bool {
		if failed || !strings.HasSuffix(r.URL.Path, "/tag/") {
			return false
		}
		failed = true
		return answer(w, http.StatusServiceUnavailable, "UNKNOWN")
	})
	tr, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdle()
	pub := p.publisher()
	pub.DryRun = true
	pub.Dest.HTTP = tr.Client()
	if _, err := pub.Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{}); err != nil || !failed {
		t.Errorf("failed: %v, %v", failed, err)
	}
}
