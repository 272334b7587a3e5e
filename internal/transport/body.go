package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// How long nothing may happen. None of them bounds a request as a whole.
const (
	dialTimeout = 30 * time.Second
	tlsTimeout  = 15 * time.Second
	// bodyIdle is how long an answer's body may give no byte.
	bodyIdle = time.Minute
	// sendIdle is how long the server may take no byte of a request's body.
	sendIdle = 2 * time.Minute
	// answerWait is how long a server may think before it answers. A finished
	// upload takes longer: the registry hashes, or assembles it in its store.
	answerWait = time.Minute
	uploadWait = 10 * time.Minute
	// drainTime and drainSize bound what is read of a body that nobody wants,
	// so that its connection lives.
	drainTime = 5 * time.Second
	drainSize = 64 << 10
)

// errStalled means that the server went silent. It is a timeout: net.Error's
// Timeout is true, so that a caller may try again.
var errStalled error = stalled{}

type stalled struct{}

func (stalled) Error() string   { return "no byte came or went for too long" }
func (stalled) Timeout() bool   { return true }
func (stalled) Temporary() bool { return true }

// stalledOr gives the reason that ctx was cancelled for, if that was a stall.
func stalledOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// A watch cancels a request whose server takes or says nothing: first until
// it answers, then, for the answer's body, whenever that is read. One timer
// does it all, since there is one for each request of a run.
//
// It is the context of its request, too.
type watch struct {
	context.Context
	cancel context.CancelCauseFunc
	conns  *conns        // of the host
	answer time.Duration // for the answer, once all is sent

	mu       sync.Mutex
	timer    *time.Timer
	answered bool
	ended    bool
}

type watchKey struct{}

// Value gives the watch itself under watchKey.
func (w *watch) Value(key any) any {
	if key == (watchKey{}) {
		return w
	}
	return w.Context.Value(key)
}

func newWatch(ctx context.Context, c *conns, answer time.Duration) *watch {
	w := &watch{conns: c, answer: answer}
	w.Context, w.cancel = context.WithCancelCause(ctx)
	c.begin()
	w.timer = time.AfterFunc(answer, w.ring)
	return w
}

func (w *watch) ring() { w.cancel(errStalled) }

// set and pause are for the time before the answer.
func (w *watch) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		w.timer.Reset(d)
	}
}

func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		w.timer.Stop()
	}
}

// stop ends that time. The timer then belongs to who reads the body.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	w.timer.Stop()
}

func (w *watch) isAnswered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answered
}

// end lets go of everything.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.ended = true
		w.conns.end()
	}
}

// A body is the body of an answer. A read that gives nothing for idle fails
// with errStalled; time between reads doesn't count.
type body struct {
	io.ReadCloser
	watch *watch
	idle  time.Duration

	blob   *host // whose bytes are counted, and paced; else nil
	pace   *pace
	closed sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.idle)
	n, err := b.ReadCloser.Read(b.pace.cut(p))
	b.watch.timer.Stop()
	if err != nil && err != io.EOF { // that is bare, by io.Reader's contract
		err = stalledOr(b.watch, err)
	}
	if b.blob != nil {
		b.blob.counts.received.Add(int64(n))
		if werr := b.pace.wait(b.watch, n); werr != nil && err == nil {
			err = werr
		}
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.watch.end()
	if b.blob != nil {
		b.closed.Do(func() { b.blob.limits.gate.leave(true) })
	}
	return err
}

// A sending is a request's body under a watch. While its own source is slow
// the server is not to blame, so the clock stands still.
type sending struct {
	io.ReadCloser
	watch *watch
	blob  *host // whose bytes are counted, and paced; else nil
	pace  *pace
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.pause()
	n, err := s.ReadCloser.Read(s.pace.cut(p))
	if s.blob != nil {
		s.blob.counts.sentBytes.Add(int64(n))
		if werr := s.pace.wait(s.watch, n); werr != nil && err == nil {
			err = werr
		}
	}
	if err != nil {
		s.watch.set(s.watch.answer)
	} else {
		s.watch.set(sendIdle)
	}
	return n, err
}

// hold reads a small answer whole, so that its connection is free, and one that
// is lost in the middle is one more fault of the request. What is longer goes on
// as a stream.
func (b *body) hold(resp *http.Response) error {
	const most = 1 << 20
	buf, err := readSome(resp, b, most)
	if err != nil {
		_ = b.Close() // err says it
		return err
	}
	if buf.Len() < most {
		_ = b.Close() // its end was read
		resp.Body = io.NopCloser(buf)
		return nil
	}
	resp.Body = &held{Reader: io.MultiReader(buf, b), Closer: b}
	return nil
}

// text reads the text of an error answer, or what of it comes in a short time:
// a server that gives a byte now and then would hold its reader.
func (b *body) text(resp *http.Response) {
	b.watch.timer.Reset(min(b.idle, drainTime))
	buf, _ := readSome(resp, b.ReadCloser, drainSize) // half a text is better than none
	_ = b.Close()
	resp.Body = io.NopCloser(buf)
}

// readSome reads at most most bytes of r, the body of resp.
func readSome(resp *http.Response, r io.Reader, most int64) (*bytes.Buffer, error) {
	const likely = 64 << 10 // what a server says of the length is believed up to here
	var buf bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		buf.Grow(int(min(n, likely)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r, most))
	return &buf, err
}

type held struct {
	io.Reader
	io.Closer
}
