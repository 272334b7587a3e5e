package check

import (
	"container/list"
	"context"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A memory keeps what was learnt of layers, so that each is read once. What was
// used longest ago gives way when it grows too large.
type memory struct {
	mu      sync.Mutex
	entries map[key]*entry
	used    *list.List // of *entry that are done, latest first
	bytes   int64
	most    int64
}

// A key names one way to read a blob.
type key struct {
	digest oci.Digest
	entire bool // as a layer, entries and all; else digest and size only
}

// An entry is one blob that is being read or was.
type entry struct {
	key   key
	done  chan struct{} // closed once facts are set, or reading failed
	facts *facts        // nil if it failed
	place *list.Element // of used
}

func newMemory(most int64) *memory {
	return &memory{entries: map[key]*entry{}, used: list.New(), most: most}
}

// get gives what is known of k, or what read finds. Who comes while another
// reads waits for that. What read didn't find is not kept: it may be the fault
// of one place, and the next who asks reads at its own.
func (m *memory) get(ctx context.Context, k key, read func() (*facts, error)) (*facts, error) {
	for {
		m.mu.Lock()
		e := m.entries[k]
		if e == nil {
			e = &entry{key: k, done: make(chan struct{})}
			m.entries[k] = e
			m.mu.Unlock()
			f, err := read()
			m.settle(e, f)
			return f, err
		}
		if e.place != nil {
			m.used.MoveToFront(e.place)
		}
		m.mu.Unlock()
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if e.facts != nil {
			return e.facts, nil
		}
	}
}

// settle keeps f, the facts of e, or forgets e if there are none.
func (m *memory) settle(e *entry, f *facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.facts = f
	close(e.done)
	if f == nil {
		delete(m.entries, e.key)
		return
	}
	e.place = m.used.PushFront(e)
	m.bytes += f.weight()
	for m.bytes > m.most && m.used.Len() > 1 {
		last := m.used.Back()
		old := m.used.Remove(last).(*entry)
		old.place = nil
		delete(m.entries, old.key)
		m.bytes -= old.facts.weight()
	}
}
