package publish_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/publish"
)

// Two tags share a guard tag. One is moved by somebody else before it gets what that
// keeps: it stays for the other one.
func TestGuardOfTwoTags(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		c := s.cast
		s.from.push("src/a:1", c.fresh())
		s.from.push("src/b:1", c.fresh())
		s.to.push("org/a:1", c.old())
		s.to.push("org/a:2", c.old())
		other := make(chan struct{})
		pushed := sync.OnceFunc(func() { close(other) })
		var mu sync.Mutex
		first := ""
		s.to.on(func(_ http.ResponseWriter, r *http.Request) bool {
			tag, ok := strings.CutPrefix(r.URL.Path, "/v2/org/a/manifests/")
			if !ok || tag != "1" && tag != "2" || r.Method != http.MethodHead {
				return false
			}
			mu.Lock()
			if first == "" {
				first = tag
				mu.Unlock()
				<-other // its guard tag is there, and the other tag needs it too
				s.to.push("org/a:"+tag, c.list("arm64=1111", "riscv64=9999"))
				return false
			}
			mu.Unlock()
			if tag != first {
				pushed()
			}
			return false
		})
		s.opt.Guard = publish.Guard{Template: "keep-{digest}"}
		r := s.mustPush("src/a:1 > a:1", "src/b:1 > a:2")
		s.is(r, "org/a:1 merged, org/a:2 merged")
		tags := s.to.tags("org/a")
		for _, item := range r.Items {
			if d := item.Changes[len(item.Changes)-1].New; !slices.Contains(tags, "keep-"+d.Encoded()) {
				t.Errorf("nothing keeps %s: %q", d, tags)
			}
		}
	})
}

// What a failed item wrote for itself and for one that is done stays, where only what
// failed is taken back.
func TestGuardOfAFailedItem(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		img := s.cast.image("amd64=1")
		s.from.push("src/a:1", img)
		s.from.push("src/b:1", img)
		done := make(chan struct{})
		var once sync.Once
		s.to.on(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, "/v2/org/a/manifests/"):
			case strings.HasSuffix(r.URL.Path, "/2"):
				once.Do(func() { close(done) })
			case strings.HasSuffix(r.URL.Path, "/1"):
				<-done
				w.WriteHeader(http.StatusBadRequest)
				return true
			}
			return false
		})
		s.pub.Scope = publish.OneItem
		s.opt.Guard = publish.Guard{Template: "keep-{digest}"}
		r, err := s.push("src/a:1 > a:1", "src/b:1 > a:2")
		if err == nil {
			t.Error("no error")
		}
		if got, want := s.to.tags("org/a"), []string{"2", "keep-" + img.Desc.Digest.Encoded()}; !slices.Equal(got, want) {
			t.Errorf("the tags are %q, want %q; %+v", got, want, r.Items)
		}
	})
}
