package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A spring is what a test's tee reads from, and what its members read alone.
type spring struct {
	body   []byte
	err    error // at the end, in place of io.EOF
	wrap   func(io.Reader) io.Reader
	opened int          // by the tee
	given  atomic.Int64 // bytes that were read of it
	closed bool
	ended  bool // the context of the read, before it was closed

	mu    sync.Mutex
	alone int // passes that members made for themselves
}

func newSpring(size int) *spring {
	s := &spring{body: make([]byte, size), err: io.EOF}
	_, _ = rand.NewChaCha8([32]byte{7}).Read(s.body) // it never fails
	return s
}

type springPass struct {
	io.Reader
	*spring
	ctx context.Context
}

func (s *spring) open(ctx context.Context) (io.ReadCloser, error) {
	s.opened++
	r := io.MultiReader(bytes.NewReader(s.body), iotest.ErrReader(s.err))
	if s.wrap != nil {
		r = s.wrap(r)
	}
	return &springPass{r, s, ctx}, nil
}

func (p *springPass) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	n, err := p.Reader.Read(b)
	p.given.Add(int64(n))
	return n, err
}

func (p *springPass) Close() error {
	p.closed, p.ended = true, p.ctx.Err() != nil
	return nil
}

func (s *spring) openAlone(context.Context) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone++
	return io.NopCloser(bytes.NewReader(s.body)), nil
}

// group runs a tee of s with n members until the test ends.
func (s *spring) group(t *testing.T, n int) []*member {
	tee, members := newTee(s.open), make([]*member, n)
	for i := range members {
		members[i] = tee.add(s.openAlone)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tee.run(t.Context())
	}()
	t.Cleanup(func() {
		for _, m := range members {
			m.leave()
		}
		<-done
		if len(tee.chunks) != 0 {
			t.Errorf("%d chunks are held by nobody", len(tee.chunks))
		}
	})
	return members
}

// drink is one member's pass, in steps of a test.
type drink struct {
	io.ReadCloser

	mu  sync.Mutex
	got []byte
	err error
}

func begin(t *testing.T, m *member) *drink {
	t.Helper()
	rc, err := m.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &drink{ReadCloser: rc}
}

// take reads n bytes, or to the end if n is negative, in the background.
func (d *drink) take(n int64) {
	go func() {
		if n < 0 {
			n = 1 << 40
		}
		part, err := io.ReadAll(io.LimitReader(d, n))
		d.mu.Lock()
		defer d.mu.Unlock()
		d.got, d.err = append(d.got, part...), err
	}()
	synctest.Wait()
}

func (d *drink) waits() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.got) == 0 && d.err == nil
}

func (d *drink) wants(t *testing.T, who string, body []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || !bytes.Equal(d.got, body) {
		t.Errorf("%s has %d bytes and %v, want all %d as they were", who, len(d.got), d.err, len(body))
	}
}

// Real goroutines, each at a pace of its own.
func TestTeeGivesAllTheSame(t *testing.T) {
	paces := []func(io.Reader) io.Reader{
		func(r io.Reader) io.Reader { return r },
		iotest.HalfReader,
		func(r io.Reader) io.Reader { return struct{ io.Reader }{r} },
		func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, 3), iotest.HalfReader(r)) },
	}
	for _, size := range []int{0, 1, teeChunk - 1, teeChunk, teeChunk + 1, 2<<20 + 17} {
		for _, n := range []int{1, 5} {
			t.Run(fmt.Sprint(size, " to ", n), func(t *testing.T) {
				s := newSpring(size)
				s.wrap = iotest.DataErrReader
				var wg sync.WaitGroup
				for i, m := range s.group(t, n) {
					wg.Go(func() {
						defer m.leave()
						rc, err := m.open(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						defer rc.Close()
						if got, err := io.ReadAll(paces[i%len(paces)](rc)); err != nil || !bytes.Equal(got, s.body) {
							t.Errorf("member %d has %d bytes and %v", i, len(got), err)
						}
					})
				}
				wg.Wait()
				if s.opened != 1 || s.alone != 0 {
					t.Errorf("read %d times together and %d times alone, want once together", s.opened, s.alone)
				}
			})
		}
	}
}

func TestTeeHandsOnTheSourcesError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(teeChunk + 100)
		s.err = errors.New("the source broke")
		members := s.group(t, 3)
		for i, m := range members {
			d := begin(t, m)
			d.take(-1)
			if d.err != s.err || !bytes.Equal(d.got, s.body) {
				t.Errorf("member %d has %d bytes and %v, want what there was and the source's own error", i, len(d.got), d.err)
			}
			d.Close()
		}
		if !s.closed || s.opened != 1 || s.alone != 0 {
			t.Errorf("closed %v, read %d times and %d alone", s.closed, s.opened, s.alone)
		}
	})
}

// The fastest is never further ahead than what is held.
func TestSlowestSetsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const held = teeChunks * teeChunk
		s := newSpring(3 * held)
		members := s.group(t, 2)
		fast, slow := begin(t, members[0]), begin(t, members[1])
		defer fast.Close()
		defer slow.Close()
		fast.take(-1)
		if given := s.given.Load(); given > held+teeChunk {
			t.Errorf("%d bytes were read for a member that took none, want at most %d", given, held+teeChunk)
		}
		slow.take(held)
		if given := s.given.Load(); given > 2*held+teeChunk || given < 2*held {
			t.Errorf("%d bytes were read for a member that took %d", given, held)
		}
		slow.take(-1)
		fast.wants(t, "the fast", s.body)
		slow.wants(t, "the slow", s.body)
	})
}

func TestStalledMemberGoesOnAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(4 << 20)
		members := s.group(t, 3)
		a, b, stalled := begin(t, members[0]), begin(t, members[1]), begin(t, members[2])
		defer a.Close()
		defer b.Close()
		defer stalled.Close()
		stalled.take(100_000)
		a.take(-1)
		b.take(-1)
		time.Sleep(teePatience - time.Second)
		if !a.waits() {
			t.Fatal("the others went on at once")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		a.wants(t, "the first", s.body)
		b.wants(t, "the second", s.body)
		stalled.take(-1)
		stalled.wants(t, "the stalled one", s.body)
		if s.opened != 1 || s.alone != 1 {
			t.Errorf("read %d times together and %d times alone, want once each", s.opened, s.alone)
		}
	})
}

// One that holds up nobody else is waited for.
func TestNobodyIsHeldUpByHimself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(4 << 20)
		d := begin(t, s.group(t, 1)[0])
		defer d.Close()
		time.Sleep(5 * teePatience)
		d.take(-1)
		d.wants(t, "the only one", s.body)
		if s.alone != 0 {
			t.Error("it was left out")
		}
	})
}

func TestMemberThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(4 << 20)
		members := s.group(t, 2)
		d := begin(t, members[0])
		defer d.Close()
		d.take(-1)
		if !d.waits() {
			t.Fatal("nobody waited for the other")
		}
		time.Sleep(teePatience)
		synctest.Wait()
		d.wants(t, "the one that came", s.body)
		late := begin(t, members[1])
		defer late.Close()
		late.take(-1)
		late.wants(t, "the late one", s.body)
		if s.alone != 1 {
			t.Errorf("%d passes alone, want that of the late one", s.alone)
		}
	})
}

// Up to what is held nobody waits for anybody.
func TestLateMemberFindsTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(teeChunks * teeChunk)
		members := s.group(t, 2)
		d := begin(t, members[0])
		d.take(-1)
		d.wants(t, "the first", s.body)
		d.Close()
		late := begin(t, members[1])
		late.take(-1)
		late.wants(t, "the late one", s.body)
		late.Close()
		if s.opened != 1 || s.alone != 0 {
			t.Errorf("read %d times together and %d times alone", s.opened, s.alone)
		}
	})
}

func TestMemberThatGoesLeavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(4 << 20)
		members := s.group(t, 3)
		stays, goes := begin(t, members[0]), begin(t, members[1])
		defer stays.Close()
		goes.take(10)
		stays.take(-1)
		goes.Close()
		members[2].leave() // its upload was refused before it began
		synctest.Wait()
		stays.wants(t, "the one that stays", s.body)
		again := begin(t, members[1])
		defer again.Close()
		again.take(-1)
		again.wants(t, "another attempt", s.body)
		if s.alone != 1 {
			t.Errorf("%d passes alone, want that of the other attempt", s.alone)
		}
	})
}

func TestTeeEndsWithItsLastMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(4 << 20)
		members := s.group(t, 2)
		for _, m := range members {
			d := begin(t, m)
			d.take(10)
			d.Close()
		}
		synctest.Wait()
		if !s.closed || !s.ended || s.given.Load() > 2<<20 {
			t.Errorf("closed %v, context ended %v, %d bytes read; want the source left", s.closed, s.ended, s.given.Load())
		}
	})
}

func TestTeeThatNobodyComesTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(10)
		for _, m := range s.group(t, 2) {
			m.leave()
			m.leave()
		}
		synctest.Wait()
		if s.opened != 0 {
			t.Error("it was read for nobody")
		}
	})
}

// Each pass ends with its own context, and all with that of the tee.
func TestTeeEndsWithContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpring(10)
		blocked := make(chan struct{})
		s.wrap = func(io.Reader) io.Reader { return blockedReader(blocked) }
		tee := newTee(s.open)
		a, b := tee.add(s.openAlone), tee.add(nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		go tee.run(ctx)
		own, leave := context.WithCancel(t.Context())
		rc, err := a.open(own)
		if err != nil {
			t.Fatal(err)
		}
		one, other := &drink{ReadCloser: rc}, begin(t, b)
		one.take(-1)
		other.take(-1)
		leave()
		synctest.Wait()
		if !errors.Is(one.err, context.Canceled) || other.err != nil {
			t.Errorf("got %v and %v, want one ended", one.err, other.err)
		}
		cause := errors.New("the run ends")
		cancel(cause)
		close(blocked) // as a body does whose request's context ends
		synctest.Wait()
		if other.err != cause || !s.closed {
			t.Errorf("got %v, closed %v; want the cause of the end", other.err, s.closed)
		}
		one.Close()
		other.Close()
	})
}

// A blockedReader gives nothing until it is closed.
type blockedReader chan struct{}

func (b blockedReader) Read([]byte) (int, error) {
	<-b
	return 0, context.Canceled
}
