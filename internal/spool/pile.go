package spool

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// A Pile keeps any number of contents in one file without a name, so that it
// costs one descriptor, and none before the first [Pile.Add]. It is safe for
// concurrent use.
type Pile struct {
	Dir  string // where the file is; "" is [os.TempDir]
	What string // what the contents are, for errors: "layers of x"

	adding sync.Mutex // held while bytes are added, which may take long
	mu     sync.Mutex
	f      *os.File
	end    int64
}

// A Section is one content of a [Pile].
type Section struct {
	pile    *Pile
	at, len int64
}

// Add reads r to its end. ctx ends it between two reads.
func (p *Pile) Add(ctx context.Context, r io.Reader) (*Section, error) {
	p.adding.Lock()
	defer p.adding.Unlock()
	f, at, err := p.file()
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(io.NewOffsetWriter(f, at), ctxReader{ctx, r})
	if err != nil {
		return nil, err // what was written is overwritten by the next
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end += n
	return &Section{p, at, n}, nil
}

// file gives the file, and where the next content begins.
func (p *Pile) file() (*os.File, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		f, err := New(p.Dir, p.What)
		if err != nil {
			return nil, 0, err
		}
		p.f = f
	}
	return p.f, p.end, nil
}

// Close lets go of the file, and of all contents, once what is being added is.
// The pile can be used again.
func (p *Pile) Close() error {
	p.adding.Lock()
	defer p.adding.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.f
	if p.f, p.end = nil, 0; f == nil {
		return nil
	}
	return f.Close()
}

// Size is the content's, in bytes.
func (s *Section) Size() int64 { return s.len }

// Open reads the content from its start; any number of readers may.
func (s *Section) Open() (*io.SectionReader, error) {
	s.pile.mu.Lock()
	defer s.pile.mu.Unlock()
	if s.pile.f == nil {
		return nil, fmt.Errorf("%s: %w", s.pile.What, os.ErrClosed)
	}
	return io.NewSectionReader(s.pile.f, s.at, s.len), nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
