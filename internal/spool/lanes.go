package spool

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Lanes is a [Pile] that takes contents at the same time. It costs one
// descriptor for each content that was ever added beside others, however many
// there are after one another.
type Lanes struct {
	Dir  string // where the files are; "" is [os.TempDir]
	What string // what the contents are, for errors: "layers of x"

	mu    sync.Mutex
	all   []*Pile
	spare []*Pile
}

// Add reads r to its end. ctx ends it between two reads.
func (l *Lanes) Add(ctx context.Context, r io.Reader) (*Section, error) {
	p := l.take()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.spare = append(l.spare, p)
	}()
	return p.Add(ctx, r)
}

func (l *Lanes) take() *Pile {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.spare); n > 0 {
		p := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return p
	}
	p := &Pile{Dir: l.Dir, What: l.What}
	l.all = append(l.all, p)
	return p
}

// Close lets go of the files, and of all contents.
func (l *Lanes) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, p := range l.all {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
