package quaytest

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A limit is one of nginx's leaky buckets ("nodelay").
type limit struct {
	zone  string
	rate  float64 // requests a second
	burst float64
}

// limitsFor gives the limit of a request, false for none.
func limitsFor(r *http.Request) (l limit, key string, ok bool) {
	two := r.ProtoMajor == 2
	pick := func(zone string, rate, burst, rate2, burst2 float64) limit {
		if two {
			return limit{zone, rate2, burst2}
		}
		return limit{zone, rate, burst}
	}
	// HTTP/1 is limited by the client's address, HTTP/2 by connection.
	key = r.RemoteAddr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && !two {
		key = host
	}
	path := r.URL.Path
	rest := strings.TrimPrefix(path, "/v2/")
	parts := strings.Split(rest, "/")
	switch {
	case strings.HasPrefix(path, "/api/"):
		return pick("api", 5, 25, 50, 100), key, true
	case path == "/v2/_catalog":
		return pick("catalog", 5, 1, 50, 5), key, true
	case path == "/v2/auth":
		auth := r.Header.Get("Authorization")
		return limit{"auth", 120, 2}, auth, auth != ""
	case !strings.HasPrefix(path, "/v2"):
		return limit{}, "", false
	case len(parts) > 3 && parts[2] == "tags":
		return pick("tags", 5, 2, 50, 2), key, true
	case len(parts) > 3 && parts[2] == "manifests":
		return pick("manifests", 50, 10, 500, 50), key, true
	case strings.Contains(rest, "/blobs/"):
		return pick("blobs", 50, 50, 500, 100), key, true
	}
	return pick("v2", 60, 20, 600, 80), key, true
}

// A limiter holds the buckets.
type limiter struct {
	now     func() time.Time
	mu      sync.Mutex
	buckets map[string]*bucket
}

// A bucket is how far one key is above its rate, in requests.
type bucket struct {
	excess float64
	last   time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, buckets: map[string]*bucket{}}
}

// allow counts r. As in Quay's nginx, HTTP/1 connections end after each
// answer, a refused one too.
func (l *limiter) allow(w http.ResponseWriter, r *http.Request) bool {
	lim, key, ok := limitsFor(r)
	if !ok {
		return true
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[lim.zone+" "+key]
	if b == nil {
		l.buckets[lim.zone+" "+key] = &bucket{last: now}
		return true
	}
	excess := max(0, b.excess-lim.rate*now.Sub(b.last).Seconds()+1)
	if excess > lim.burst {
		return false
	}
	b.excess, b.last = excess, now
	return true
}
