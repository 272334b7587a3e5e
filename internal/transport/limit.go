package transport

import (
	"context"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"
)

// limits hold what hosts allow. Both sides of a run share one, since a server
// counts by the client's address.
type limits struct {
	rate  *float64 // Options.RateLimit
	most  int      // Options.Concurrency
	up    *pace    // Options.BandwidthLimit
	down  *pace
	mu    sync.Mutex
	hosts map[string]*hostLimits
}

// hostLimits are the limits of one host.
type hostLimits struct {
	fixed  *float64
	quayio bool
	gate   *gate
	mu     sync.Mutex
	paused time.Time // nobody sends before
	http2  bool      // by the last answer
	zones  map[string]*bucket
	free   *bucket // the zone of what nothing limits
}

func (l *limits) at(u *url.URL) *hostLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := hostPort(u)
	h := l.hosts[key]
	if h == nil {
		h = &hostLimits{fixed: l.rate, gate: newGate(l.most), quayio: strings.EqualFold(u.Hostname(), "quay.io"), zones: map[string]*bucket{}}
		if l.hosts == nil {
			l.hosts = map[string]*hostLimits{}
		}
		l.hosts[key] = h
	}
	return h
}

// A row is one line of Quay's limits. Requests of one zone are counted
// together, each row with its own burst, as nginx does.
type row struct {
	zone             string
	rate, rate2      float64 // requests a second, on HTTP/1.1 and on HTTP/2
	burst, burst2    float64
	everyHost        bool // else on quay.io alone: no other Quay is known to have it
	exceptAnonymous  bool // it is counted by the Authorization header
	oneNamespaceDeep bool // nested repository names miss it
}

// Quay's limits, from the nginx templates of quay/quay (conf/nginx,
// rate-limiting and server-base, read 2026-08).
var (
	rowAPI      = row{zone: "api", rate: 5, burst: 25, rate2: 50, burst2: 100, everyHost: true}
	rowCatalog  = row{zone: "api", rate: 5, burst: 1, rate2: 50, burst2: 5}
	rowTags     = row{zone: "tags", rate: 5, burst: 2, rate2: 50, burst2: 2, oneNamespaceDeep: true}
	rowManifest = row{zone: "registry", rate: 50, burst: 10, rate2: 500, burst2: 50, oneNamespaceDeep: true}
	rowBlob     = row{zone: "registry", rate: 50, burst: 50, rate2: 500, burst2: 100}
	rowAuth     = row{zone: "auth", rate: 120, burst: 2, rate2: 120, burst2: 2, exceptAnonymous: true}
	rowOther    = row{zone: "v2", rate: 60, burst: 20, rate2: 600, burst2: 80}
)

// rowOf gives the limit that Quay sets for a request.
func rowOf(kind Kind, u *url.URL) row {
	_, repo := classify(u)
	deep := strings.Count(repo, "/") > 1
	r := rowOther
	switch {
	case kind == API && strings.HasPrefix(u.Path, "/api/v1/"):
		r = rowAPI
	case u.Path == "/v2/auth":
		r = rowAuth
	case strings.HasPrefix(u.Path, "/v2/_catalog"):
		r = rowCatalog
	case kind == Blob || kind == Upload:
		r = rowBlob
	case kind == Manifest:
		r = rowManifest
	case strings.HasSuffix(u.Path, "/tags/list"):
		r = rowTags
	}
	if deep && r.oneNamespaceDeep {
		return rowOther
	}
	return r
}

// bucketOf gives the bucket that a request is counted in, and how many may go
// at once; nil where nothing limits it.
func (h *hostLimits) bucketOf(kind Kind, u *url.URL, anonymous bool) (*bucket, float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fixed != nil {
		if *h.fixed <= 0 {
			return nil, 0
		}
		return h.zone("fixed", *h.fixed, true), 1
	}
	var r row
	if h.quayio || kind == API {
		r = rowOf(kind, u)
	}
	if (!r.everyHost && !h.quayio) || !strings.HasPrefix(u.Path, "/v2/") && kind != API {
		if h.free == nil {
			h.free = h.zone("", math.Inf(1), false)
		}
		return h.free, 0 // until the first 429
	}
	if r.exceptAnonymous && anonymous {
		return nil, 0
	}
	rate, burst := r.rate, r.burst
	if h.http2 {
		rate, burst = r.rate2, r.burst2
	}
	return h.zone(r.zone, rate, false), burst
}

func (h *hostLimits) zone(name string, top float64, fixed bool) *bucket {
	b := h.zones[name]
	if b == nil {
		b = &bucket{turn: make(chan struct{}, 1), rate: top, top: top, fixed: fixed}
		h.zones[name] = b
	}
	b.setTop(top)
	return b
}

// pause holds every request to the host back for d.
func (h *hostLimits) pause(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(d); until.After(h.paused) {
		h.paused = until
	}
}

func (h *hostLimits) answered(http2 bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.http2 = http2
}

// waitPause blocks while the host is paused. It reports whether it was.
func (h *hostLimits) waitPause(ctx context.Context) (bool, error) {
	for held := false; ; held = true {
		h.mu.Lock()
		paused := h.paused
		h.mu.Unlock()
		if paused.IsZero() {
			return held, nil
		}
		d := time.Until(paused)
		if d <= 0 {
			return held, nil
		}
		if err := sleep(ctx, d); err != nil {
			return true, err
		}
	}
}

// wait blocks until a request may be sent, and gives how long that took.
func (h *hostLimits) wait(ctx context.Context, b *bucket, burst float64) (time.Duration, error) {
	start := time.Now()
	held := false
	for {
		paused, err := h.waitPause(ctx)
		held = held || paused
		if err != nil {
			return time.Since(start), err
		}
		if b == nil {
			break
		}
		waited, err := b.take(ctx, burst)
		held = held || waited
		if err != nil {
			return time.Since(start), err
		}
		if !waited {
			break
		}
		b = nil // taken; but the host may have paused while we waited
	}
	if !held {
		return 0, nil
	}
	return time.Since(start), nil
}

// A bucket is the leaky bucket of nginx' limit_req: it fills by one with each
// request and leaks rate a second, and what would lift it over burst waits.
// nginx lets burst+1 go at once; we stay one below, so that answers and
// requests which overtake each other on the way don't cost a 429.
//
// golang.org/x/time/rate has one burst a limiter; here requests of one zone
// have different ones.
type bucket struct {
	turn chan struct{} // held by the one who waits next, so that they go in order

	mu      sync.Mutex
	rate    float64 // now; lowered by a 429
	top     float64 // what rate recovers to; +Inf: no limit
	fixed   bool    // the user's limit: a 429 doesn't change it
	level   float64
	last    time.Time
	changed time.Time // when rate was
	halved  time.Time // when a 429 last counted

	// How many requests were answered with another status in the current second
	// that had any and in the one before: what the server takes.
	second   time.Time
	count    float64
	previous float64
}

// A limit that is known and was halved holds for recovery before it grows by a
// quarter. A rate that was learnt is a guess: a 429 may be about how much goes
// at once, which the gate bounds. So it grows by half each second.
const (
	recovery = 10 * time.Second
	guessed  = time.Second
)

func (b *bucket) setTop(top float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.top != top { // HTTP/2 was found, or lost
		if b.rate == b.top || b.rate > top {
			b.rate = top
		}
		b.top = top
	}
}

// take waits for room for one request. It reports whether it had to wait.
func (b *bucket) take(ctx context.Context, burst float64) (waited bool, err error) {
	select {
	case b.turn <- struct{}{}:
	default:
		waited = true
		select {
		case b.turn <- struct{}{}:
		case <-ctx.Done():
			return waited, context.Cause(ctx)
		}
	}
	defer func() { <-b.turn }()
	for {
		d := b.try(time.Now(), burst)
		if d <= 0 {
			return waited, nil
		}
		waited = true
		if err := sleep(ctx, d); err != nil {
			return waited, err
		}
	}
}

// try counts a request if it may go now, else says how long that will take.
func (b *bucket) try(now time.Time, burst float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recover(now)
	if math.IsInf(b.rate, 1) {
		return 0
	}
	if burst < 1 {
		burst = max(1, b.rate/4)
	}
	if !b.last.IsZero() {
		b.level = max(0, b.level-b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if over := b.level + 1 - burst; over > 1e-9 {
		return time.Duration(math.Ceil(over / b.rate * float64(time.Second)))
	}
	b.level++
	return 0
}

// accepted notes an answer other than 429.
func (b *bucket) accepted(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.second) >= time.Second {
		b.second, b.previous, b.count = now, b.count, 0
	}
	b.count++
}

// refused lowers the rate: the server answered 429. A limit that is known is
// halved. Where none is, the rate becomes what the server was seen to take, and
// is at most halved; before a second of answers there is nothing to learn, and
// the gate and the pause must do. Several answers to one burst count once.
func (b *bucket) refused(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fixed || now.Sub(b.halved) < time.Second {
		return
	}
	rate := b.rate / 2
	if math.IsInf(b.top, 1) {
		taken := max(b.count, b.previous)
		switch free := math.IsInf(b.rate, 1); {
		case free && (taken == 0 || b.previous == 0 && now.Sub(b.second) < time.Second):
			return
		case free:
			rate, b.last, b.level = taken, now, 0
		default:
			rate = min(b.rate, max(taken, rate))
		}
	}
	b.rate, b.changed, b.halved = max(rate, 0.5), now, now
}

// recover lets the rate grow again after a while without a 429.
func (b *bucket) recover(now time.Time) {
	step, by := recovery, 1.25
	if math.IsInf(b.top, 1) {
		step, by = guessed, 1.5
	}
	for b.rate < b.top && now.Sub(b.changed) >= step {
		b.changed = b.changed.Add(step)
		b.rate *= by
		if b.rate >= min(b.top, 1000) {
			b.rate = b.top
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
