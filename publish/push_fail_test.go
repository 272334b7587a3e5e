package publish_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/publish"
)

// patient lets s's destination be asked again after faults, as the program does.
func (s *stage) patient() {
	tr, err := transport.New(transport.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(tr.CloseIdle)
	s.pub.Dest.HTTP = tr.Client()
}

// failing gives a hook that answers requests whose method and end of path are these
// with status, times times; asked counts them all.
func failing(method, end string, status, times int) (hook func(http.ResponseWriter, *http.Request) bool, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, end) || asked.Add(1) > int64(times) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		return answer(w, status, "UNKNOWN")
	}, asked
}

// The old tool repeated the whole tagging call, whatever had failed; ours repeats the
// one request, and only where that may help.
func TestPushRetries(t *testing.T) {
	tests := []struct {
		name          string
		status, times int
		asked         int64
		fails         bool
	}{
		{"A22 fails twice", http.StatusServiceUnavailable, 2, 3, false},
		{"A22 what is refused isn't asked again", http.StatusForbidden, 1000, 1, true},
		{"A22 nor is what is invalid", http.StatusBadRequest, 1000, 1, true},
		{"A23 fails four times", http.StatusServiceUnavailable, 1000, 4, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits between its requests
			s := newStage(t, plainArena)
			s.patient()
			s.from.push("src/repo:1", s.cast.image("amd64=1"))
			hook, asked := failing(http.MethodPut, "/manifests/latest", tt.status, tt.times)
			s.to.on(hook)
			r, err := s.push("src/repo:1 > target/repo:latest")
			if (err != nil) != tt.fails || asked.Load() != tt.asked {
				t.Errorf("%d requests and %v, want %d", asked.Load(), err, tt.asked)
			}
			if want := "org/target----repo:latest pushed"; !tt.fails {
				s.is(r, want)
			}
		})
	}
}

// untouched fails the test unless nothing was written.
func (s *stage) untouched() {
	s.t.Helper()
	for _, asked := range s.to.requests("GET ", "HEAD ") {
		s.t.Errorf("it was asked %s", asked)
	}
}

func TestPushReadsAllFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		method, end string
		source      bool
	}{
		"A28 the tag answers 500":    {http.MethodGet, "/org/repo2/manifests/1", false},
		"A32 the source answers 500": {http.MethodGet, "/src/repo2/manifests/1", true},
	} {
		t.Run(name, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stage) {
				var lines []string
				for n := range 4 {
					s.from.push(fmt.Sprintf("src/repo%d:1", n), s.cast.fresh())
					s.to.push(fmt.Sprintf("org/repo%d:1", n), s.cast.old())
					lines = append(lines, fmt.Sprintf("src/repo%d:1 > repo%d:1", n, n))
				}
				hook, _ := failing(tt.method, tt.end, http.StatusInternalServerError, 1000)
				s.to.on(nil)
				if tt.source {
					s.from.on(hook)
				} else {
					s.to.on(hook)
				}
				r, err := s.push(lines...)
				if err == nil || !strings.Contains(err.Error(), "src/repo2:1") || !strings.Contains(err.Error(), "500") {
					t.Errorf("got %v, want the third item's", err)
				}
				s.is(r, "org/repo0:1 skipped, org/repo1:1 skipped, org/repo2:1 failed, org/repo3:1 skipped")
				s.untouched()

				// Where nothing is taken back the others go on.
				s.pub.Rollback = publish.Never
				r, err = s.push(lines...)
				if err == nil {
					t.Error("no error the second time")
				}
				s.is(r, "org/repo0:1 merged, org/repo1:1 merged, org/repo2:1 failed, org/repo3:1 merged")
				s.to.on(nil)
				s.to.means("org/repo2:1", s.cast.old())
			})
		})
	}
}

// five stages five items, of which the tag "old" exists and "new" doesn't. The layer
// of each of broken is gone from its source.
func five(s *stage, broken ...int) (lines []string) {
	for n := range 5 {
		img := s.cast.image(fmt.Sprintf("amd64=new%d", n))
		s.from.push(fmt.Sprintf("src/repo%d:1", n), img)
		s.to.push(fmt.Sprintf("org/repo%d:old", n), s.cast.image(fmt.Sprintf("amd64=old%d", n)))
		lines = append(lines, fmt.Sprintf("src/repo%d:1 > repo%d:old,new", n, n))
	}
	s.from.on(func(w http.ResponseWriter, r *http.Request) bool {
		for _, n := range broken {
			if strings.HasPrefix(r.URL.Path, fmt.Sprintf("/v2/src/repo%d/blobs/", n)) {
				return answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
			}
		}
		return false
	})
	s.to.on(nil)
	return lines
}

// asBefore fails the test unless all tags of five are as they were.
func asBefore(s *stage) {
	s.t.Helper()
	for n := range 5 {
		s.to.means(fmt.Sprintf("org/repo%d:old", n), s.cast.image(fmt.Sprintf("amd64=old%d", n)))
		if _, raw := s.to.get(fmt.Sprintf("org/repo%d:new", n)); raw != nil {
			s.t.Errorf("org/repo%d:new is there", n)
		}
	}
}

func TestPushGoesOn(t *testing.T) {
	t.Run("A36", func(t *testing.T) {
		staged(t, func(t *testing.T, s *stage) {
			lines := five(s, 0, 3)
			s.pub.Rollback = publish.Never
			r, err := s.push(lines...)
			for n := range 5 {
				failed := n == 0 || n == 3
				name := fmt.Sprintf("src/repo%d:1", n)
				if err == nil || strings.Contains(err.Error(), name) != failed || (r.Items[n].Error != "") != failed {
					t.Errorf("%s: the error is %v, the report's %q", name, err, r.Items[n].Error)
				}
				if !failed {
					s.to.means(fmt.Sprintf("org/repo%d:old", n), s.cast.image(fmt.Sprintf("amd64=new%d", n)))
				}
			}
			if r.Totals[publish.Pushed] != 6 || r.Totals[publish.Failed] != 4 {
				t.Errorf("totals %v", r.Totals)
			}
		})
	})
	t.Run("A36 and is taken back", func(t *testing.T) {
		staged(t, func(t *testing.T, s *stage) {
			r, err := s.push(five(s, 0, 3)...)
			if err == nil || !strings.Contains(err.Error(), "repo0:1") || !strings.Contains(err.Error(), "repo3:1") || errors.Is(err, publish.ErrUndoIncomplete) {
				t.Errorf("got %v, want both failures", err)
			}
			asBefore(s)
			if n := r.Totals[publish.RolledBack] + r.Totals[publish.Skipped]; n != 6 || r.Totals[publish.Failed] != 4 {
				t.Errorf("totals %v", r.Totals)
			}
		})
	})
	t.Run("and only what failed is taken back", func(t *testing.T) {
		s := newStage(t, plainArena)
		lines := five(s, 3)
		s.pub.Scope = publish.OneItem
		r, err := s.push(lines...)
		if err == nil || r.Totals[publish.Pushed] != 8 || r.Totals[publish.Failed] != 2 {
			t.Errorf("got %v and %v", err, r.Totals)
		}
	})
}

func TestPushFailFast(t *testing.T) {
	t.Run("A37 no other is begun", func(t *testing.T) {
		s := newStage(t, plainArena)
		lines := five(s, 1)
		s.pub.Images, s.pub.Rollback, s.opt.FailFast = 1, publish.Never, true
		r, err := s.push(lines...)
		if err == nil || strings.Contains(err.Error(), "repo2") {
			t.Errorf("got %v, want one failure", err)
		}
		for _, n := range []int{2, 3, 4} {
			s.to.means(fmt.Sprintf("org/repo%d:old", n), s.cast.image(fmt.Sprintf("amd64=old%d", n)))
			if c := r.Items[n].Changes[0]; c.Status != publish.Skipped {
				t.Errorf("item %d: %+v, want it skipped", n, c)
			}
		}
		last := s.from.requests("GET /v2/src/repo0/", "GET /v2/src/repo1/")
		if slices.ContainsFunc(last, func(r string) bool { return strings.Contains(r, "/blobs/") }) {
			t.Errorf("further items were begun: %q", last)
		}
	})
	t.Run("A37 what runs is cancelled", func(t *testing.T) {
		s := newStage(t, plainArena)
		lines := five(s, 1)
		s.opt.FailFast = true
		running := make(chan struct{})
		begun := sync.OnceFunc(func() { close(running) })
		broken := s.from.hook
		s.from.on(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.HasPrefix(r.URL.Path, "/v2/src/repo0/blobs/"):
				begun()
				<-r.Context().Done() // for ever, if nobody cancels it
				return true
			case strings.HasPrefix(r.URL.Path, "/v2/src/repo1/blobs/"):
				<-running
			}
			return broken(w, r)
		})
		if _, err := s.push(lines...); err == nil {
			t.Error("no error")
		}
		asBefore(s)
	})
}

func TestPushRollsBack(t *testing.T) {
	t.Run("A75 item 3 of 5 fails", func(t *testing.T) {
		staged(t, func(t *testing.T, s *stage) {
			lines := five(s, 2)
			// The others have moved their tags by then.
			moved := make(chan struct{})
			var mu sync.Mutex
			left := map[string]bool{}
			for _, n := range []int{0, 1, 3, 4} {
				left[fmt.Sprintf("/v2/org/repo%d/manifests/old", n)], left[fmt.Sprintf("/v2/org/repo%d/manifests/new", n)] = true, true
			}
			s.to.on(func(_ http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodPut && left[r.URL.Path] {
					if delete(left, r.URL.Path); len(left) == 0 {
						close(moved)
					}
				}
				return false
			})
			broken := s.from.hook
			s.from.on(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/v2/src/repo2/blobs/") {
					<-moved
				}
				return broken(w, r)
			})
			r, err := s.push(lines...)
			if err == nil || errors.Is(err, publish.ErrUndoIncomplete) {
				t.Errorf("got %v", err)
			}
			asBefore(s)
			if r.Totals[publish.RolledBack] != 8 || r.Totals[publish.Failed] != 2 {
				t.Errorf("totals %v", r.Totals)
			}
		})
	})
	// What of the statement applies here: a failed item has nothing published and is
	// taken back, a success isn't.
	t.Run("A73", func(t *testing.T) {
		s := newStage(t, plainArena)
		lines := five(s, 4)
		hook, _ := failing(http.MethodPut, "/org/repo4/manifests/new", http.StatusForbidden, 1000)
		s.to.on(hook)
		s.opt.Hooks.Sign = []string{script(t, "echo it is run; exit 1"), "signer"}
		s.pub.Warn = func(line string) { t.Errorf("warned: %s", line) } // nor is there a signer's end
		if _, err := s.push(lines...); err == nil || strings.Contains(err.Error(), "hook") {
			t.Errorf("got %v", err)
		}
		asBefore(s)
		s.opt.Hooks.Sign = nil
		five(s)
		r := s.mustPush(lines...)
		if r.Totals[publish.Pushed] != 10 || len(r.Undone) != 0 {
			t.Errorf("totals %v, rolled back %v", r.Totals, r.Undone)
		}
	})
	t.Run("a tag that moves meanwhile is decided anew", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.from.push("src/repo:1", s.cast.fresh())
		s.to.push("org/repo:1", s.cast.list("arm64=0"))
		var once sync.Once
		s.to.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/org/repo/manifests/1") {
				once.Do(func() { s.to.push("org/repo:1", s.cast.old()) }) // right before the write
			}
			return false
		})
		r := s.mustPush("src/repo:1 > repo:1")
		s.is(r, "org/repo:1 merged")
		if got := s.to.entries("org/repo:1", s.cast.names); got != "6666 7777 8888 2222 5555" {
			t.Errorf("the list has %q", got)
		}
		if c := r.Items[0].Changes[0]; c.Attempts != 2 || c.Old != s.cast.old().Desc.Digest {
			t.Errorf("%+v, want two attempts", c)
		}
	})
}

// What failed while content was copied is said once.
func TestPushSaysItsStepOnce(t *testing.T) {
	s := newStage(t, plainArena)
	img := s.cast.image("amd64=1")
	s.from.push("src/repo:1", img)
	hook, _ := failing(http.MethodPut, string(img.Desc.Digest), http.StatusForbidden, 1000)
	s.to.on(hook)
	_, err := s.push("src/repo:1 > target/repo:latest")
	if err == nil || strings.Count(err.Error(), "put manifest") != 1 {
		t.Errorf("%v, want its step once", err)
	}
}
