package bulk

import (
	"slices"

	"github.com/quaymaster/quaymaster/pipeline"
)

// A want is a blob that an image of the window will ask for: its manifest was
// read, and its turn may not have come. While the image hasn't ended, the want is
// among blobs.wants of its key.
type want struct {
	m     *mover // the image's: what opens and writes its destination
	piece pipeline.Piece
	// flight, if it isn't nil, was begun for the image by another's transfer, and
	// counts it as waiting. The image takes it over when it asks. blobs.mu guards it.
	flight *flight
}

// foresee notes what the image of m is going to ask for, until forget.
func (m *mover) foresee(pieces []pipeline.Piece) {
	if m.alone || m.dry {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mine = make(map[key]*want, len(pieces))
	for _, p := range pieces {
		k := keyOf(p.Blob.Desc.Digest)
		w := &want{m: m, piece: p}
		m.mine[k] = w
		m.wants[k] = append(m.wants[k], w)
	}
}

// forget says that the image of m has ended: nobody needs to bring it anything.
func (m *mover) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, w := range m.mine {
		if w.flight != nil {
			w.flight.leave()
			w.flight = nil
		}
		left := slices.DeleteFunc(m.wants[k], func(o *want) bool { return o == w })
		if m.wants[k] = left; len(left) == 0 {
			delete(m.wants, k)
		}
	}
	m.mine = nil
}

// lacking gives the images of the window that will ask for blob k, whose home
// lacks it, and to which nothing brings it yet: one for each home, in the order in
// which they were looked up. m.mu is held.
func (b *blobs) lacking(k key) []*want {
	var out []*want
	homes := map[home]bool{}
	for _, f := range b.flights[k] {
		homes[f.to] = true
	}
	for _, w := range b.wants[k] {
		if h := w.m.home; w.flight == nil && !homes[h] && !b.isAt(k, h) {
			homes[h] = true
			out = append(out, w)
		}
	}
	return out
}

// foreseen gives the flight that was begun for the image of m before it asked
// for blob k, nil if there is none. The image waits for it from now on. m.mu is
// held.
func (m *mover) foreseen(k key) *flight {
	w := m.mine[k]
	if w == nil || w.flight == nil {
		return nil
	}
	f := w.flight
	w.flight = nil
	select {
	case <-f.done:
		if f.err != nil {
			return nil // the image tries for itself
		}
	default:
	}
	return f
}
