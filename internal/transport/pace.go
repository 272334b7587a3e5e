package transport

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// A pace bounds the bytes a second of blobs in one direction, of all hosts and
// both sides of a run together. nil sets no bound.
type pace struct {
	limiter *rate.Limiter

	// For tests.
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

// Bytes that go at once: an eighth of a second's, within these.
const (
	minPaceBurst = 4 << 10
	maxPaceBurst = 256 << 10
)

func newPace(bytesPerSecond int64) *pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/8, minPaceBurst), maxPaceBurst)
	return &pace{limiter: rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst)), now: time.Now, sleep: sleep}
}

// cut shortens p to what one read may take.
func (p *pace) cut(b []byte) []byte {
	if p == nil {
		return b
	}
	return b[:min(len(b), p.limiter.Burst())]
}

// wait holds up who has read n bytes, which is at most what cut allows.
func (p *pace) wait(ctx context.Context, n int) error {
	if p == nil || n == 0 {
		return nil
	}
	now := p.now()
	if d := p.limiter.ReserveN(now, n).DelayFrom(now); d > 0 {
		return p.sleep(ctx, d)
	}
	return nil
}
