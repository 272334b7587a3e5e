package stage

import (
	"context"
	"slices"
	"sync"
)

// A Group gathers what concurrent callers want to change in one file, so that
// one of them writes for all that wait. The zero value is not ready; see
// [NewGroup].
type Group[T any] struct {
	lock   func(ctx context.Context) (unlock func() error, err error)
	write  func(ctx context.Context, batch []T) []error
	writer chan struct{} // holds a value while one writes

	mu      sync.Mutex
	waiting []*change[T]
}

type change[T any] struct {
	value T
	done  chan error
}

// NewGroup returns a group whose batches write writes while lock is held. write
// gives an error for each value, or one for all, or nil.
func NewGroup[T any](lock func(context.Context) (func() error, error), write func(context.Context, []T) []error) *Group[T] {
	return &Group[T]{lock: lock, write: write, writer: make(chan struct{}, 1)}
}

// Do hands in v and waits until it is written. If ctx ends before the writing
// began, v is taken back.
func (g *Group[T]) Do(ctx context.Context, v T) error {
	c := &change[T]{v, make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	case g.writer <- struct{}{}:
		err := g.flush(ctx)
		<-g.writer
		if err != nil && g.withdraw(c) {
			return err
		}
		return <-c.done
	}
	if g.withdraw(c) {
		return context.Cause(ctx)
	}
	return <-c.done // it is being written
}

// flush writes all that wait. The error means that it could not begin.
func (g *Group[T]) flush(ctx context.Context) error {
	unlock, err := g.lock(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	batch := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	if len(batch) == 0 {
		return unlock()
	}
	values := make([]T, len(batch))
	for i, c := range batch {
		values[i] = c.value
	}
	// What is begun is finished: others wait for it too.
	errs := g.write(context.WithoutCancel(ctx), values)
	unlockErr := unlock()
	for i, c := range batch {
		err := unlockErr
		switch len(errs) {
		case 0:
		case 1:
			err = errs[0]
		default:
			err = errs[i]
		}
		c.done <- err
	}
	return nil
}

func (g *Group[T]) withdraw(c *change[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}
