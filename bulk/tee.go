package bulk

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// teeChunk is how many bytes of a read are handed on together.
	teeChunk = 64 << 10
	// teeChunks is how many of them are held: how far the fastest member may be
	// before the slowest. That is 1 MiB a tee.
	teeChunks = 16
	// teePatience is how long the others are held up by a member that takes
	// nothing, or hasn't come yet.
	teePatience = 10 * time.Second
)

// An opener begins a pass over a blob's content.
type opener func(context.Context) (io.ReadCloser, error)

// A tee gives the content of one read to many members at once. The slowest sets
// the pace; a member that fails leaves the rest alone. Who made it adds the
// members, runs it, and says of each when it needs no more.
//
// What is read is verified by who reads it, once for all: a failure at the end
// reaches every member in place of its end of file.
type tee struct {
	source opener

	mu      sync.Mutex
	members map[*member]bool // that haven't left
	begun   bool             // one has come
	chunks  []*chunk         // that are held
	base    int              // number of the first of them
	err     error            // how the read ended, after chunks; io.EOF if well
	cancel  context.CancelFunc
	coming  bell // the first has come, or the last has left
	more    bell // chunks or err have changed
	room    bell // the slowest has moved on, or has left
}

// A member is one of those who are fed. It keeps its place from the beginning:
// the read doesn't get ahead of one that is yet to come by more than is held.
type member struct {
	*tee
	// alone begins a pass of its own. After the first bytes came from the tee
	// nobody has seen all of one read, so the destination must check the whole.
	alone opener

	// Under tee.mu.
	came bool
	next int // number of the chunk that it wants next
}

// A chunk is a part of the content. It goes back to the pool once nobody holds
// it: the tee while it is the next of some member, and who copies from it.
type chunk struct {
	n    int
	held int // under tee.mu
	buf  [teeChunk]byte
}

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// newTee makes a tee of what source opens. source is called once.
func newTee(source opener) *tee {
	return &tee{source: source, members: map[*member]bool{}}
}

// add gives a further member. All are added before run is called. alone is how
// it reads if it needs another pass, or has fallen behind.
func (t *tee) add(alone opener) *member {
	m := &member{tee: t, alone: alone}
	t.members[m] = true
	return m
}

// run reads for the members until the content or ctx ends, or none is left. It
// begins once the first has come.
func (t *tee) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := t.wait(ctx, cancel)
	if err == nil {
		if err = t.read(ctx); err != io.EOF && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	t.more.ring()
}

// failure is what the read failed of, nil if it didn't.
func (t *tee) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == io.EOF {
		return nil
	}
	return t.err
}

// errNobody ends a read that nobody needs.
var errNobody = errors.New("nobody reads any more")

// wait returns when there is somebody to read for.
func (t *tee) wait(ctx context.Context, cancel context.CancelFunc) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = cancel
	for !t.begun && len(t.members) > 0 {
		come := t.coming.wait()
		t.mu.Unlock()
		select {
		case <-come:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if len(t.members) == 0 {
		return errNobody
	}
	return nil
}

// read reads the content. io.EOF is that all went well.
func (t *tee) read(ctx context.Context) error {
	rc, err := t.source(ctx)
	if err != nil {
		return err
	}
	defer rc.Close()
	for {
		c := chunkPool.Get().(*chunk)
		c.n, c.held = 0, 1
		for c.n < teeChunk && err == nil {
			var n int
			n, err = rc.Read(c.buf[c.n:])
			c.n += n
		}
		if full := t.push(ctx, c); full != nil {
			return full
		}
		if err != nil {
			return err
		}
	}
}

// push hands c on as soon as there is room.
func (t *tee) push(ctx context.Context, c *chunk) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.n == 0 {
		t.drop(c)
		return nil
	}
	var late <-chan time.Time
	for len(t.chunks) == teeChunks && !t.shift() {
		room := t.room.wait()
		t.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(teePatience)
			defer timer.Stop()
			late = timer.C
		}
		tooLong := false
		select {
		case <-room:
		case <-late:
			tooLong, late = true, nil
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			break
		}
		if tooLong {
			t.leaveBehind()
		}
	}
	if ctx.Err() != nil {
		t.drop(c)
		return context.Cause(ctx)
	}
	t.chunks = append(t.chunks, c)
	t.more.ring()
	return nil
}

// shift lets go of the first chunk if no member wants it any more. It is done
// as late as may be, so that who comes late finds the beginning. t.mu is held.
func (t *tee) shift() bool {
	for m := range t.members {
		if m.next == t.base {
			return false
		}
	}
	t.drop(t.chunks[0])
	t.chunks = append(t.chunks[:0], t.chunks[1:]...)
	t.base++
	return true
}

// leaveBehind leaves out who holds others up. t.mu is held.
func (t *tee) leaveBehind() {
	var last []*member
	for m := range t.members {
		if m.next == t.base {
			last = append(last, m)
		}
	}
	if len(last) == len(t.members) {
		return // there are no others
	}
	for _, m := range last {
		delete(t.members, m)
	}
}

// drop is one hold of c fewer. t.mu is held.
func (t *tee) drop(c *chunk) {
	if c.held--; c.held == 0 {
		chunkPool.Put(c)
	}
}

// open begins a pass: as a member the first time, alone after that.
func (m *member) open(ctx context.Context) (io.ReadCloser, error) {
	m.mu.Lock()
	first := m.members[m] && !m.came
	m.came, m.begun = true, true
	m.coming.ring()
	m.mu.Unlock()
	if !first {
		return m.alone(ctx)
	}
	return &fed{member: m, ctx: ctx}, nil
}

// leave says that m needs no more, or never will. It may be said again.
func (m *member) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.members[m] {
		return
	}
	delete(m.members, m)
	m.room.ring()
	m.coming.ring()
	if len(m.members) > 0 {
		return
	}
	for _, c := range m.chunks {
		m.drop(c)
	}
	m.chunks = nil
	if m.cancel != nil {
		m.cancel()
	}
}

// fed is the pass of a member. Its calls are made one at a time.
type fed struct {
	*member
	ctx   context.Context
	chunk *chunk // that is copied from, nil for none
	at    int    // in it
	given int64
	own   io.ReadCloser // once it has fallen behind
}

func (f *fed) Read(p []byte) (int, error) {
	if f.chunk == nil && f.own == nil {
		if err := f.take(); err != nil {
			return 0, err
		}
	}
	if f.own != nil {
		return f.own.Read(p)
	}
	n := copy(p, f.chunk.buf[f.at:f.chunk.n])
	f.at += n
	f.given += int64(n)
	if f.at == f.chunk.n {
		f.moveOn()
	}
	return n, nil
}

// take waits for the next chunk, or for what it takes to go on alone.
func (f *fed) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.members[f.member] {
		if at := f.next - f.base; at < len(f.chunks) {
			f.chunk, f.at = f.chunks[at], 0
			f.chunk.held++
			return nil
		}
		if f.err != nil {
			return f.err
		}
		more := f.more.wait()
		f.mu.Unlock()
		select {
		case <-more:
		case <-f.ctx.Done():
		}
		f.mu.Lock()
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
	}
	f.mu.Unlock()
	defer f.mu.Lock()
	return f.goAlone()
}

// goAlone reads on from where the tee has left f behind.
func (f *fed) goAlone() error {
	rc, err := f.alone(f.ctx)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, rc, f.given); err != nil {
		_ = rc.Close() // it has failed already
		return err
	}
	f.own = rc
	return nil
}

// moveOn says that f is through with its chunk.
func (f *fed) moveOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(f.chunk)
	f.chunk = nil
	if f.next++; f.next == f.base+1 {
		f.room.ring() // the read may have waited for f
	}
}

func (f *fed) Close() error {
	f.mu.Lock()
	if f.chunk != nil {
		f.drop(f.chunk)
		f.chunk = nil
	}
	f.mu.Unlock()
	f.leave()
	if f.own != nil {
		return f.own.Close()
	}
	return nil
}

// A bell wakes all who wait for it.
type bell struct{ c chan struct{} }

// wait gives what is closed at the next ring. As ring, it is called with the
// lock held that guards what the bell tells.
func (b *bell) wait() <-chan struct{} {
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

func (b *bell) ring() {
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}
