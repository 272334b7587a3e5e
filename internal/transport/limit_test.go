package transport

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An nginx counts as its limit_req with nodelay does: by a clock of whole
// milliseconds, the first request free.
type nginx struct {
	mu      sync.Mutex
	rate    float64
	excess  float64
	last    int64
	refused int
}

func (n *nginx) request(burst float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now().UnixMilli()
	if n.last == 0 {
		n.last = now
		return
	}
	excess := max(0, n.excess-n.rate*float64(now-n.last)/1000+1)
	if excess > burst {
		n.refused++
		return
	}
	n.excess, n.last = excess, now
}

func TestLimiterStaysBelowNginx(t *testing.T) {
	api := mustURL(t, "https://quay.example.com/api/v1/repository")
	tests := []struct {
		name  string
		url   *url.URL
		kind  Kind
		http2 bool
		rate  float64
		burst float64
		n     int
		least time.Duration // that n requests take
		most  time.Duration
	}{
		{"API on HTTP/1.1, any Quay", api, API, false, 5, 25, 75, 10 * time.Second, 10500 * time.Millisecond},
		{"API on HTTP/2, any Quay", api, API, true, 50, 100, 300, 4 * time.Second, 4500 * time.Millisecond},
		{"tags of quay.io", mustURL(t, "https://quay.io/v2/a/b/tags/list"), Other, false, 5, 2, 22, 4 * time.Second, 4500 * time.Millisecond},
		{"manifests of quay.io", mustURL(t, "https://quay.io/v2/a/b/manifests/x"), Manifest, false, 50, 10, 110, 2 * time.Second, 2500 * time.Millisecond},
		{"nested manifests get the general row", mustURL(t, "https://quay.io/v2/a/b/c/manifests/x"), Manifest, false, 60, 20, 80, time.Second, 1500 * time.Millisecond},
		{"blobs of quay.io on HTTP/2", mustURL(t, "https://quay.io/v2/a/b/blobs/x"), Blob, true, 500, 100, 600, time.Second, 1500 * time.Millisecond},
		{"catalog of quay.io", mustURL(t, "https://quay.io/v2/_catalog"), Other, false, 5, 1, 11, 2 * time.Second, 2500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := (&limits{}).at(tt.url)
				h.answered(tt.http2)
				server := &nginx{rate: tt.rate}
				start := time.Now()
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for range tt.n / 8 {
							send(t, h, tt.kind, tt.url)
							server.request(tt.burst)
							time.Sleep(time.Duration(rand.N(20)) * time.Millisecond / 10)
						}
					})
				}
				for range tt.n % 8 {
					send(t, h, tt.kind, tt.url)
					server.request(tt.burst)
				}
				wg.Wait()
				if server.refused > 0 {
					t.Errorf("%d of %d requests would be refused", server.refused, tt.n)
				}
				if d := time.Since(start); d < tt.least || d > tt.most {
					t.Errorf("took %v, want %v to %v", d, tt.least, tt.most)
				}
			})
		})
	}
}

func send(t *testing.T, h *hostLimits, kind Kind, u *url.URL) {
	b, burst := h.bucketOf(kind, u, false)
	if _, err := h.wait(t.Context(), b, burst); err != nil {
		t.Error(err)
	}
}

// Manifests and blobs are counted in one zone of nginx, each against its burst.
func TestRowsOfOneZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manifest, blob := mustURL(t, "https://quay.io/v2/a/b/manifests/x"), mustURL(t, "https://quay.io/v2/a/b/blobs/x")
		h := (&limits{}).at(blob)
		server := &nginx{rate: 50}
		for i := range 300 {
			if i%7 == 0 {
				send(t, h, Manifest, manifest)
				server.request(10)
			} else {
				send(t, h, Blob, blob)
				server.request(50)
			}
		}
		if server.refused > 0 {
			t.Errorf("%d requests would be refused", server.refused)
		}
	})
}

func TestOtherHostsAreFreeUntilA429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustURL(t, "https://registry.example.com/v2/a/manifests/x")
		h := (&limits{}).at(u)
		start := time.Now()
		for range 100 {
			send(t, h, Manifest, u)
		}
		if d := time.Since(start); d != 0 {
			t.Fatalf("100 requests took %v, want no time", d)
		}
		b, _ := h.bucketOf(Manifest, u, true)
		for range 100 {
			b.accepted(time.Now())
		}
		b.refused(time.Now())
		if !math.IsInf(b.rate, 1) {
			t.Errorf("got %v requests/s before a second was seen, want no limit", b.rate)
		}
		time.Sleep(time.Second)
		for range 20 { // one burst's worth of answers counts once
			b.refused(time.Now())
		}
		if b.rate != 100 {
			t.Errorf("got %v requests/s, want the 100 that were taken in a second", b.rate)
		}
		start = time.Now()
		for range 25 + 100 + 100 {
			send(t, h, Manifest, u)
		}
		if d := time.Since(start); d < 1400*time.Millisecond || d > 1600*time.Millisecond {
			t.Errorf("225 requests took %v, want 1.5 s: 25 at once, then 100/s, later 150/s", d)
		}
		time.Sleep(15 * time.Second)
		send(t, h, Manifest, u)
		if !math.IsInf(b.rate, 1) {
			t.Errorf("got %v requests/s after 15 quiet seconds, want no limit", b.rate)
		}
	})
}

// What a host takes is no less for answers 429 that aren't about its rate: the
// rate isn't lowered with the gate's bound. A host that does count is followed.
func TestLearntRateFollowsTheServer(t *testing.T) {
	u := mustURL(t, "https://registry.example.com/v2/a/manifests/x")
	synctest.Test(t, func(t *testing.T) { // each 20th answer is 429
		h := (&limits{}).at(u)
		b, _ := h.bucketOf(Manifest, u, true)
		start := time.Now()
		for i := range 1000 {
			send(t, h, Manifest, u)
			time.Sleep(10 * time.Millisecond)
			if i%20 == 19 {
				b.refused(time.Now())
			} else {
				b.accepted(time.Now())
			}
		}
		if d := time.Since(start); d > 12*time.Second {
			t.Errorf("1000 requests of 10 ms took %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := (&limits{}).at(u)
		b, _ := h.bucketOf(Manifest, u, true)
		server := &nginx{rate: 20}
		start := time.Now()
		good := 0
		for time.Since(start) < time.Minute {
			send(t, h, Manifest, u)
			time.Sleep(time.Millisecond)
			before := server.refused
			server.request(5)
			if server.refused > before {
				b.refused(time.Now())
				h.pause(time.Second)
			} else {
				b.accepted(time.Now())
				good++
			}
		}
		if good < 500 || server.refused > 60 {
			t.Errorf("in a minute %d of 1200 went, and %d were refused", good, server.refused)
		}
	})
}

func TestQuayLimitIsHalvedAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustURL(t, "https://quay.example.com/api/v1/repository")
		h := (&limits{}).at(u)
		b, burst := h.bucketOf(API, u, true)
		b.refused(time.Now())
		if b.rate != 2.5 || burst != 25 {
			t.Errorf("got %v and burst %v, want 2.5 and 25", b.rate, burst)
		}
		time.Sleep(time.Minute)
		send(t, h, API, u)
		if b.rate != 5 {
			t.Errorf("got %v after a quiet minute, want 5", b.rate)
		}
	})
}

func TestRateLimitReplacesAll(t *testing.T) {
	two, zero := 2.0, 0.0
	synctest.Test(t, func(t *testing.T) {
		for _, s := range []string{"https://quay.io/api/v1/repository", "https://registry.example.com/v2/a/blobs/x"} {
			u := mustURL(t, s)
			h := (&limits{rate: &two}).at(u)
			start := time.Now()
			for i := range 5 {
				send(t, h, Blob, u)
				if d := time.Since(start); d != time.Duration(i)*500*time.Millisecond {
					t.Errorf("%s: request %d after %v", s, i, d)
				}
			}
			h = (&limits{rate: &zero}).at(u)
			start = time.Now()
			for range 1000 {
				send(t, h, API, u)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("%s: without limits 1000 requests took %v", s, d)
			}
		}
	})
}

func TestBothSidesShareLimits(t *testing.T) {
	rate := 5.0
	a := newTest(t, Options{RateLimit: &rate})
	b := newTest(t, Options{Peer: a})
	s := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	start := time.Now()
	for i := range 6 {
		fetch(t, []*Transport{a, b}[i%2].Client(), "GET", s.URL+"/x")
	}
	if d := time.Since(start); d < 990*time.Millisecond {
		t.Errorf("6 requests at 5/s took %v, want 1 s", d)
	}
}

func TestRowOf(t *testing.T) {
	tests := map[string]row{
		"/v2/auth": rowAuth, "/v2/_catalog": rowCatalog, "/v2/a/b/tags/list": rowTags, "/v2/a/b/c/tags/list": rowOther,
		"/v2/a/b/manifests/x": rowManifest, "/v2/a/b/c/manifests/x": rowOther, "/v2/a/b/c/blobs/x": rowBlob,
		"/v2/a/b/blobs/uploads/": rowBlob, "/v2/": rowOther, "/api/v1/repository": rowAPI,
	}
	for path, want := range tests {
		u := mustURL(t, "https://quay.io"+path)
		kind, _ := classify(u)
		if got := rowOf(kind, u); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/v2/kolla/nova-api/manifests/latest", "manifest kolla/nova-api"},
		{"/v2/a/manifests/b/manifests/x", "manifest a/manifests/b"},
		{"/v2/a/blobs/sha256:0", "blob a"},
		{"/v2/a/b/blobs/uploads/", "upload a/b"},
		{"/v2/a/b/blobs/uploads/uuid/more", "upload a/b"},
		{"/v2/a/blobs/uploads", "upload a"},
		{"/v2/a/blobs/uploadsx", "blob a"},
		{"/v2/a/tags/list", "other a"},
		{"/v2/a/referrers/sha256:0", "other a"},
		{"/v2/", "other "}, {"/v2/_catalog", "other "}, {"/v2/manifests/x", "other "}, {"/", "other "},
		{"/api/v1/repository/a/manifests/x", "api "},
	}
	for _, tt := range tests {
		kind, repo := classify(&url.URL{Path: tt.path})
		if got := fmt.Sprint(kind, " ", repo); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
	}
}
