package dockerpush

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// A source is the image of one daemon. What is asked of it first makes the
// daemon push; others that ask meanwhile wait for the same push. It is safe for
// concurrent use.
type source struct {
	client *engine.Client
	ref    oci.Ref
	name   string // what the daemon is asked for
	env    backend.Env

	mu      sync.Mutex
	got     *store  // what was pushed
	flight  *flight // a push that is under way, and isn't given up
	closed  bool
	flights sync.WaitGroup
}

// A flight is a push under way.
type flight struct {
	cancel  context.CancelCauseFunc
	waiters int           // guarded by the source's mu
	done    chan struct{} // closed when got and err are set
	got     *store
	err     error
}

func newSource(client *engine.Client, ref oci.Ref, name string, env backend.Env) *source {
	return &source{client: client, ref: ref, name: name, env: env}
}

var errClosed = errors.New("the source is closed")

// pushed gives what the daemon pushed. A push that fails is tried again by who
// asks next.
func (s *source) pushed(ctx context.Context) (*store, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closed || s.got != nil {
		defer s.mu.Unlock()
		if s.closed {
			return nil, errClosed
		}
		return s.got, nil
	}
	f := s.flight
	if f == nil {
		f = s.start(ctx)
	}
	f.waiters++
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && s.flight == f {
		s.flight = nil
	}
	s.mu.Unlock()
	if last { // nobody wants it any more; it is over when the tag is gone
		f.cancel(context.Cause(ctx))
		<-f.done
	}
	return nil, context.Cause(ctx)
}

// start begins a push, which ends when those who wait for it are gone. mu is
// held.
func (s *source) start(ctx context.Context) *flight {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, done: make(chan struct{})}
	s.flight = f
	s.flights.Go(func() {
		defer close(f.done)
		defer cancel(nil)
		got, err := s.push(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flight == f {
			s.flight = nil
		}
		if err == nil && (s.closed || s.got != nil) {
			err = errors.Join(errClosed, got.close())
		}
		if err != nil {
			f.err = oci.Wrap(err, "push", s.name, oci.Descriptor{})
			return
		}
		s.got, f.got = got, got
	})
	return f
}

// Resolve takes "", the image's tag, and the digests of what was pushed. It has
// the daemon push unless it did.
func (s *source) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	got, err := s.pushed(ctx)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	m, ok := got.root()
	switch {
	case ref == "", ref == s.ref.Tag:
	case oci.IsDigest(ref):
		m, ok = got.manifest(oci.Digest(ref))
	default:
		ok = false
	}
	if !ok {
		err := fmt.Errorf("%q: %w: the daemon didn't push it", ref, oci.ErrNotFound)
		return oci.Descriptor{}, nil, oci.Wrap(err, "read manifest", s.name, oci.Descriptor{})
	}
	return m.desc, m.raw, nil
}

// Head is as much work as Resolve.
func (s *source) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := s.Resolve(ctx, ref)
	return d, err
}

func (s *source) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	got, err := s.pushed(ctx)
	if err != nil {
		return nil, err
	}
	r, err := got.open(d)
	if err != nil {
		return nil, oci.Wrap(err, "read blob", s.name, d)
	}
	return oci.Verify(safepath.Within(ctx, io.NopCloser(r)), d), nil
}

// close frees what was pushed, and ends a push that is under way.
func (s *source) close() error {
	s.mu.Lock()
	s.closed = true
	if s.flight != nil {
		s.flight.cancel(errClosed)
	}
	got := s.got
	s.got = nil
	s.mu.Unlock()
	s.flights.Wait()
	return errors.Join(got.close(), s.client.Close())
}
