package publish_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/quaymaster/quaymaster/publish"
)

// Whatever happens to whichever request of a run, each tag has what it is to have, or
// all have what they had. No other tag comes into being.
func TestSweepOfFaults(t *testing.T) {
	verbs := map[string]func(ctx context.Context, a *arena) error{
		"merge": func(ctx context.Context, a *arena) error {
			_, err := a.publisher().Merge(ctx, a.ref("org/a:new"), a.ref("org/a:1"), publish.MergeOptions{})
			return err
		},
		"tag": func(ctx context.Context, a *arena) error {
			_, err := a.publisher().Tag(ctx, a.ref("org/a:new"), a.refs("org/a:1", "org/a:2", "org/a:3"), publish.TagOptions{})
			return err
		},
		"tag remove": func(ctx context.Context, a *arena) error {
			_, err := a.publisher().RemovePlatforms(ctx, a.refs("org/a:1", "org/a:x"), publish.ArchOptions{Archs: []string{"amd64"}})
			return err
		},
	}
	faults := map[string]func(a *arena, w http.ResponseWriter, r *http.Request, cancel func()) bool{
		"503": func(_ *arena, w http.ResponseWriter, _ *http.Request, _ func()) bool {
			return answer(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		},
		"404 that is no registry's": func(_ *arena, w http.ResponseWriter, _ *http.Request, _ func()) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		},
		"agreed and dropped": func(_ *arena, w http.ResponseWriter, r *http.Request, _ func()) bool {
			switch r.Method {
			case http.MethodPut:
				w.WriteHeader(http.StatusCreated)
			case http.MethodDelete:
				w.WriteHeader(http.StatusAccepted)
			default:
				return false
			}
			return true
		},
		"done, and the answer lost": func(a *arena, _ http.ResponseWriter, r *http.Request, _ func()) bool {
			a.next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
		"interrupted before": func(_ *arena, _ http.ResponseWriter, _ *http.Request, cancel func()) bool {
			cancel()
			return false
		},
		"interrupted after": func(a *arena, w http.ResponseWriter, r *http.Request, cancel func()) bool {
			a.next.ServeHTTP(w, r)
			cancel()
			return true
		},
	}
	c := newCast()
	all := func(a *arena) map[string]string {
		out := map[string]string{}
		for _, tag := range a.tags("org/a") {
			mt, raw := a.get("org/a:" + tag)
			out[tag] = mt + string(raw)
		}
		return out
	}
	// begin gives a registry, and what its tags mean.
	begin := func(t *testing.T) (*arena, map[string]string) {
		a := quayArena(t)
		a.push("org/a:new", c.fresh())
		a.push("org/a:1", c.old())
		a.push("org/a:2", c.image("amd64=5555"))
		a.push("org/a:x", c.list("amd64=5555"))
		return a, all(a)
	}
	for verb, do := range verbs {
		t.Run(verb, func(t *testing.T) {
			a, before := begin(t)
			a.on(nil)
			if err := do(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			goal := all(a)
			if maps.Equal(before, goal) {
				t.Fatal("nothing was changed")
			}
			for kind, fault := range faults {
				for k, last := 1, false; !last; k++ {
					a, before := begin(t)
					ctx, cancel := context.WithCancel(t.Context())
					n, what := 0, ""
					a.on(func(w http.ResponseWriter, r *http.Request) bool {
						a.mu.Lock()
						n++
						mine := n == k
						if mine {
							what = r.Method + " " + r.URL.Path
						}
						a.mu.Unlock()
						return mine && fault(a, w, r, cancel)
					})
					err := do(ctx, a)
					a.on(nil)
					want := goal
					if err != nil {
						want = before
					}
					if got := all(a); !maps.Equal(got, want) {
						t.Errorf("%s at request %d, %s: %v, and the tags mean %v", kind, k, what, err, got)
					}
					last = n < k
					cancel()
				}
			}
		})
	}
}
