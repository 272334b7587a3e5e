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

// A body is the body of an answer. A read that gives nothing for idle fails
// with errStalled; time between reads doesn't count. A short body has idle for
// all of it, or a server that gives a byte now and then would hold its reader.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
	short  bool // an error's: bounded as a whole, and its rest is read at Close
	done   bool
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, rc io.ReadCloser, idle time.Duration, short bool) *body {
	timer := time.AfterFunc(idle, func() { cancel(errStalled) })
	if !short {
		timer.Stop()
	}
	return &body{ReadCloser: rc, ctx: ctx, cancel: cancel, timer: timer, idle: idle, short: short}
}

func (b *body) Read(p []byte) (int, error) {
	if !b.short {
		b.timer.Reset(b.idle)
		defer b.timer.Stop()
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.done = true
		if err != io.EOF { // bare, by io.Reader's contract
			err = stalledOr(b.ctx, err)
		}
	}
	return n, err
}

func (b *body) Close() error {
	if b.short && !b.done {
		b.timer.Reset(min(b.idle, drainTime))
		_, _ = io.CopyN(io.Discard, b, drainSize)
	}
	err := b.ReadCloser.Close()
	b.timer.Stop()
	b.cancel(nil)
	return err
}

// A watch cancels a request whose server takes or says nothing.
type watch struct {
	cancel context.CancelCauseFunc
	answer time.Duration // for the answer, once all is sent

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func newWatch(cancel context.CancelCauseFunc, answer time.Duration) *watch {
	return &watch{cancel: cancel, answer: answer, timer: time.AfterFunc(answer, func() { cancel(errStalled) })}
}

func (w *watch) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.timer.Reset(d)
	}
}

func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// A sending is a request's body under a watch. While its own source is slow
// the server is not to blame, so the clock stands still.
type sending struct {
	io.ReadCloser
	watch *watch
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.pause()
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		s.watch.set(s.watch.answer)
	} else {
		s.watch.set(sendIdle)
	}
	return n, err
}

// hold reads a small answer whole, so that a connection lost in the middle of
// it is one more fault of the request. What is longer goes on as a stream.
func hold(resp *http.Response) error {
	const most = 1 << 20
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		resp.Body.Close()
		return err
	}
	rest := resp.Body
	if len(raw) < most {
		rest.Close()
		rest = http.NoBody
	}
	resp.Body = &held{Reader: io.MultiReader(bytes.NewReader(raw), rest), Closer: rest}
	return nil
}

type held struct {
	io.Reader
	io.Closer
}
