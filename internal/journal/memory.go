package journal

import (
	"io"
	"sync"
)

// memory is a file that isn't one.
type memory struct {
	mu sync.Mutex
	b  []byte
}

// WriteAt implements [io.WriterAt]; lines are only ever written at the end.
func (m *memory) WriteAt(p []byte, _ int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = append(m.b, p...)
	return len(p), nil
}

// ReadAt implements [io.ReaderAt].
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := copy(p, m.b[min(off, int64(len(m.b))):]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (m *memory) Sync() error  { return nil }
func (m *memory) Close() error { return nil }
