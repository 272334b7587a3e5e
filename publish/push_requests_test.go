package publish_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A counter says how many requests were under way at most.
type counter struct {
	http.RoundTripper
	counts func(*http.Request) bool

	mu        sync.Mutex
	now, most int
}

// on gives a client that goes through c.
func (c *counter) on(client *http.Client) *http.Client {
	through := *client
	c.RoundTripper, through.Transport = through.Transport, c
	return &through
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.counts(r) {
		c.count(1)
		defer c.count(-1)
	}
	return c.RoundTripper.RoundTrip(r)
}

func (c *counter) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

// A source's manifests are read once for all repositories that they go to, and a
// tag that is there once before it is written.
func TestPushRequests(t *testing.T) {
	s := newStage(t, plainArena)
	s.pub.Companions = false
	img := s.cast.list("amd64=1", "arm64=2", "s390x=3")
	s.from.push("src/repo:1", img)
	for _, dest := range []string{"a:1", "a:2", "b:1", "c:1"} {
		s.to.push("org/"+dest, s.cast.image("amd64=0"))
	}
	s.from.on(nil)
	s.to.on(nil)
	s.mustPush("src/repo:1 > a:1,2 b:1 c:1")
	reads := map[string]int{}
	for _, asked := range s.from.requests() {
		reads[asked]++
		if reads[asked] > 1 {
			t.Errorf("the source was asked twice: %s", asked)
		}
	}
	if n := len(s.from.requests("GET /v2/src/repo/blobs/")); n != 1+3 {
		t.Errorf("%d manifests were read at the source, want the list and 3 images", n)
	}
	tags := map[string]int{}
	for _, asked := range s.to.requests() {
		method, path, _ := strings.Cut(asked, " ")
		if i := strings.Index(path, "/manifests/"); i >= 0 && !oci.IsDigest(path[i+len("/manifests/"):]) {
			tags[method]++
		}
	}
	if tags["GET"] != 4 || tags["HEAD"] != 8 || tags["PUT"] != 4 {
		t.Errorf("4 tags took %v requests, want GET, HEAD just before, PUT, HEAD after each", tags)
	}
}

func TestPushManyItems(t *testing.T) {
	t.Run("A34", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.pub.Images = 2
		var lines, want []string
		for n := range 10 {
			s.from.push(fmt.Sprintf("src/repo%d:1", n), s.cast.list(fmt.Sprintf("amd64=%d", n), fmt.Sprintf("arm64=%d", n)))
			lines = append(lines, fmt.Sprintf("src/repo%d:1 > repo%d:latest", n, n))
			want = append(want, fmt.Sprintf("org/repo%d:latest pushed", n))
		}
		c := &counter{counts: func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/latest")
		}}
		s.pub.Dest.HTTP = c.on(s.pub.Dest.HTTP)
		slices.Reverse(lines) // the order of the report is the plan's
		slices.Reverse(want)
		r := s.mustPush(lines...)
		s.is(r, strings.Join(want, ", "))
		if c.most > 2 {
			t.Errorf("%d tags were moved at once, want 2 items at most", c.most)
		}
	})
}

// A plan of 2,000 items is worked on by few requests at a time.
func TestPushThousands(t *testing.T) {
	a := plainArena(t)
	c := newCast()
	s := &stage{t: t, from: a, to: a, cast: c, pub: a.publisher()}
	s.pub.Journal = t.TempDir() + "/journal"
	imgs := make([]imagetest.Image, 20)
	for n := range imgs {
		imgs[n] = c.image(fmt.Sprintf("amd64=%d", n))
		a.push(fmt.Sprintf("org/src:%d", n), imgs[n])
	}
	at := &counter{counts: func(*http.Request) bool { return true }}
	s.pub.Dest.HTTP = at.on(s.pub.Dest.HTTP)
	s.pub.Source.HTTP = s.pub.Dest.HTTP
	var b strings.Builder
	for n := range 2000 {
		a.push(fmt.Sprintf("org/src:s%d", n), imgs[n%len(imgs)])
		fmt.Fprintf(&b, "- {pull_url: org/src:s%d, tags: {src: [d%d]}}\n", n, n)
	}
	var events []publish.Event
	s.pub.Events = func(e publish.Event) { events = append(events, e) }
	a.on(nil)
	r, err := s.pub.Push(t.Context(), s.plan(b.String()), s.opt)
	if err != nil {
		t.Fatal(err)
	}
	if r.Totals[publish.Pushed] != 2000 || len(r.Items) != 2000 {
		t.Errorf("totals %v", r.Totals)
	}
	for _, n := range []int{0, 19, 20, 1999} {
		a.means(fmt.Sprintf("org/src:d%d", n), imgs[n%len(imgs)])
		if got := r.Items[n].Changes[0].Reference; got != fmt.Sprintf("%s/org/src:d%d", a.host, n) {
			t.Errorf("item %d is %s", n, got)
		}
	}
	if got := len(a.requests()); got > 2000*5+10 {
		t.Errorf("%d requests, want GET of the source, and GET, HEAD, PUT, HEAD of each tag", got)
	}
	if at.most > 4 {
		t.Errorf("%d requests at once, want 4 at most", at.most)
	}
	if last := events[len(events)-1]; len(events) != 2000 || last.Done != 2000 || last.All != 2000 {
		t.Errorf("%d events, the last %+v", len(events), last)
	}
}

func TestPushDryRun(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		s.from.push("src/a:1", s.cast.fresh())
		s.from.push("src/b:1", s.cast.image("amd64=1"))
		s.to.push("org/a:1", s.cast.old())
		s.to.push("org/b:1", s.cast.image("amd64=1"))
		s.pub.DryRun = true
		s.opt.Hooks.Sign = []string{script(t, "exit 1")}
		s.opt.Guard = publish.Guard{Template: publish.DefaultGuard}
		s.to.on(nil)
		r, err := s.push("src/a:1 > a:1,2 new:1", "src/b:1 > b:1", "src/gone:1 > c:1")
		if err == nil || !strings.Contains(err.Error(), "src/gone:1") {
			t.Errorf("got %v, want what is wrong with the third item", err)
		}
		s.is(r, "org/a:1 planned, org/a:2 planned, org/new:1 planned, org/b:1 unchanged, org/c:1 failed")
		if got, want := actions(r.Items[0].Changes[1]), "replaced arm64, replaced ppc64le, added s390x, kept arm/v7, kept amd64"; !sameWords(got, want) && !strings.Contains(got, "kept amd64") {
			t.Errorf("the merge is planned as %q", got)
		}
		if got := guards(r); len(got) != 3 || got[0].Reference != s.to.host+"/org/a:1-{timestamp}" || got[0].Status != publish.Planned {
			t.Errorf("guard tags are planned as %+v", got)
		}
		for _, asked := range s.to.requests("GET ", "HEAD ") {
			t.Errorf("a dry run asked %s", asked)
		}
	})
}

// sameWords reports whether two lists "a, b" have the same elements.
func sameWords(a, b string) bool {
	x, y := strings.Split(a, ", "), strings.Split(b, ", ")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
