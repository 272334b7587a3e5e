package publish

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// put moves a tag from what a snapshot says.
func (p *stage) put(r *run, name string, to Content) error {
	p.Helper()
	from, err := r.snapshot(p.Context(), p.ref(name))
	if err != nil {
		return err
	}
	return r.put(p.Context(), p.ref(name), from, to)
}

func TestPutAsksOnceBeforeAndOnceAfter(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		r := begun(t, p.publisher(), "push")
		from, err := r.snapshot(t.Context(), p.ref("a:1"))
		if err != nil {
			t.Fatal(err)
		}
		p.log()
		if err := r.put(t.Context(), p.ref("a:1"), from, content(newIndex)); err != nil {
			t.Fatal(err)
		}
		before := "HEAD /v2/org/a/manifests/1"
		if p.env.APIToken != "" {
			before = "GET /api/v1/repository/org/a/tag/" // it tells the expiry too
		}
		if asked := p.log(); !slices.Equal(asked, []string{before, "PUT /v2/org/a/manifests/1", "HEAD /v2/org/a/manifests/1"}) {
			t.Errorf("asked %q", asked)
		}
		if p.want(tags{"a:1": &newIndex}); r.put(t.Context(), p.ref("a:1"), state{Content: content(newIndex)}, content(newIndex)) != nil || len(p.writes()) > 0 {
			t.Error("what the tag means already was written again")
		}
	})
}

// The right to move a tag is lost when somebody else has moved it.
func TestPutOfATagThatMoved(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a", newIndex)
		r := begun(t, p.publisher(), "push")
		from, err := r.snapshot(t.Context(), p.ref("a:1"))
		if err != nil {
			t.Fatal(err)
		}
		p.push("a:1", others)
		p.push("a:2", others)
		p.log()
		if err := r.put(t.Context(), p.ref("a:1"), from, content(newIndex)); !errors.Is(err, oci.ErrMoved) {
			t.Errorf("got %v", err)
		}
		if err := r.put(t.Context(), p.ref("a:2"), state{Absent: true}, content(newIndex)); !errors.Is(err, oci.ErrMoved) {
			t.Errorf("got %v of one that appeared", err)
		}
		if err := r.remove(t.Context(), p.ref("a:1"), from); !errors.Is(err, oci.ErrMoved) {
			t.Errorf("got %v of a removal", err)
		}
		if w := p.writes(); len(w) > 0 {
			t.Errorf("wrote %q", w)
		}
		p.want(tags{"a:1": &others, "a:2": &others})
	})
}

func TestPutsAnswer(t *testing.T) {
	lost := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	dropped := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusCreated) }
	after500 := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		status(500, "UNKNOWN")(w, r, nil)
	}
	tests := []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, http.Handler)
		want   error
		done   bool
	}{
		{"is lost, the work is done", lost, nil, true},
		{"is 500, the work is done", after500, nil, true},
		{"is yes, the work isn't done", dropped, oci.ErrDigestMismatch, false},
		{"is no", status(403, "DENIED"), oci.ErrDenied, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onStages(t, func(p *stage) {
				p.push("a:1", oldIndex)
				p.push("a", newIndex)
				p.shut(on("PUT", "/a/manifests/1", tt.answer))
				r := begun(t, p.publisher(), "push")
				if err := p.put(r, "a:1", content(newIndex)); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if all, done := r.journal.Intents(); all != 1 || (done == 1) != tt.done {
					t.Errorf("%d writes are announced, %d done", all, done)
				}
			})
		})
	}
}

// What was sent is answered, though the run was told to end.
func TestPutIsNotCutShort(t *testing.T) {
	p := plainStage(t)
	p.push("a:1", oldIndex)
	p.push("a", newIndex)
	r := begun(t, p.publisher(), "push")
	from, err := r.snapshot(t.Context(), p.ref("a:1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.shut(on("PUT", "/a/manifests/1", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		cancel()
		next.ServeHTTP(w, r)
	}))
	if err := r.put(ctx, p.ref("a:1"), from, content(newIndex)); err != nil {
		t.Error(err)
	}
	p.want(tags{"a:1": &newIndex})
}

func TestRemove(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("a:1", oldIndex)
		p.push("a:2", oldIndex)
		r := begun(t, p.publisher(), "untag")
		from, err := r.snapshot(t.Context(), p.ref("a:1"))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // that it is gone already is no error
			if err := r.remove(t.Context(), p.ref("a:1"), from); err != nil {
				t.Error(err)
			}
		}
		w := p.writes()
		if api := p.env.APIToken != ""; len(w) != 1 || strings.HasPrefix(w[0], "DELETE /api/v1/repository/org/a/tag/1") != api {
			t.Errorf("wrote %q", w)
		}
		p.want(tags{"a:1": nil, "a:2": &oldIndex})
	})
}

// A registry that deletes by digest only is asked to where that is allowed, and
// takes no other tag with it.
func TestRemoveByDigest(t *testing.T) {
	tests := []struct {
		name    string
		allowed bool
		other   imagetest.Image // under another tag
		want    error
	}{
		{"not allowed", false, newSingle, oci.ErrUnsupported},
		{"allowed", true, newSingle, nil},
		{"another tag has it", true, oldSingle, oci.ErrRefused},
		{"another tag's list holds it", true, imagetest.Index(newSingle, oldSingle), oci.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := plainStage(t)
			p.push("a:1", oldSingle)
			p.push("a:other", tt.other)
			p.shut(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if strings.HasSuffix(r.URL.Path, "/manifests/1") {
					return on("DELETE", "/1", status(405, "UNSUPPORTED"))(w, r, next)
				}
				if r.Method == "DELETE" { // the store forgets the manifest and leaves its tags
					tag := r.Clone(r.Context())
					tag.URL.Path = "/v2/org/a/manifests/1"
					next.ServeHTTP(httptest.NewRecorder(), tag)
				}
				return false
			})
			pub := p.publisher()
			pub.AllowDigestDelete = tt.allowed
			r := begun(t, pub, "untag")
			from, err := r.snapshot(t.Context(), p.ref("a:1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.remove(t.Context(), p.ref("a:1"), from); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			p.want(tags{"a:other": &tt.other})
			if tt.want == nil {
				p.want(tags{"a:1": nil})
			} else {
				p.want(tags{"a:1": &oldSingle})
			}
		})
	}
}
