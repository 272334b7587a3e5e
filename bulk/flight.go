package bulk

import (
	"context"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A flight is a blob on its way into one home. It belongs to the run: the image
// that asked first may go while others wait for it.
type flight struct {
	to     home
	ctx    context.Context
	cancel context.CancelFunc
	alone  bool          // no other image has what comes of it
	wanted int           // images that wait; under blobs.mu
	done   chan struct{} // closed once the rest is set
	desc   oci.Descriptor
	made   *pipeline.Made // of a layer that goes through filters
	way    pipeline.Way
	err    error
}

// leave says that one image fewer waits for f. mu of its table is held.
func (f *flight) leave() {
	if f.wanted--; f.wanted == 0 {
		f.cancel()
	}
}

// takeOff begins the flight of p into m's home; blob k is in origin already if
// somewhere is set. m.mu is held.
func (m *mover) takeOff(k key, p pipeline.Piece, origin home, somewhere bool) *flight {
	from := ""
	if somewhere {
		from = m.names[origin]
	}
	return m.begin(k, func(f *flight) { f.desc, f.way, f.err = m.carry(f.ctx, p, from, somewhere) })
}

// begin begins a flight of k into m's home: do, which takes slots as it needs
// them. m.mu is held.
func (m *mover) begin(k key, do func(*flight)) *flight {
	f := &flight{to: m.home, alone: m.alone, wanted: 1, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(m.ctx)
	m.flights[k] = append(m.flights[k], f)
	m.dest.hold()
	m.flying.Go(func() {
		defer f.cancel()
		defer m.dest.release()
		defer m.end(k, f)
		if f.err = context.Cause(f.ctx); f.err == nil {
			do(f)
		}
	})
	return f
}

// carry brings p to m's destination. The run has it at from, if somewhere is set.
func (m *mover) carry(ctx context.Context, p pipeline.Piece, from string, somewhere bool) (oci.Descriptor, pipeline.Way, error) {
	if somewhere && m.dry {
		return p.Blob.Desc, pipeline.Mounted, nil
	}
	if mounter, ok := m.dest.Destination.(oci.Mounter); ok && !m.dry {
		return m.carryMounted(ctx, mounter, p, from)
	}
	switch there, err := m.has(ctx, p.Blob.Desc); {
	case err != nil:
		return oci.Descriptor{}, 0, err
	case there:
		return p.Blob.Desc, pipeline.Present, nil
	case m.dry:
		return p.Blob.Desc, pipeline.Fetched, nil
	}
	return m.fetch(ctx, p)
}

// has asks the destination whether d is there.
func (m *mover) has(ctx context.Context, d oci.Descriptor) (bool, error) {
	there, err := m.dest.Has(ctx, d)
	m.count.asked.Add(1)
	if there && err == nil {
		m.count.present.Add(1)
	}
	return there && err == nil, err
}

// fetch brings p from the source.
func (m *mover) fetch(ctx context.Context, p pipeline.Piece) (oci.Descriptor, pipeline.Way, error) {
	if p.Again {
		m.count.refetched.Add(1)
	}
	d, err := m.put(ctx, p.Blob, p.Size)
	return d, pipeline.Fetched, err
}

// put sends b, of size bytes or so, once there is a slot.
func (m *mover) put(ctx context.Context, b oci.Blob, size int64) (oci.Descriptor, error) {
	slots := m.slots
	if size >= 0 && size <= lightBlob {
		slots = m.light
	}
	if err := slots.acquire(ctx, 1, size); err != nil {
		return oci.Descriptor{}, err
	}
	defer slots.release(1)
	d, err := m.dest.PutBlob(ctx, b)
	if err == nil {
		m.count.put.Add(1)
	}
	return d, err
}

// moveAlone brings p without asking what other images brought.
func (m *mover) moveAlone(ctx context.Context, p pipeline.Piece) (oci.Descriptor, pipeline.Way, error) {
	return m.carry(ctx, p, "", false)
}

// A berth is a destination that stays open until its image and every flight
// into it have ended.
type berth struct {
	oci.Destination
	warn func(error) // takes what Close says

	mu    sync.Mutex
	holds int
}

func (b *berth) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds++
}

func (b *berth) release() {
	b.mu.Lock()
	b.holds--
	last := b.holds == 0
	b.mu.Unlock()
	if !last {
		return
	}
	if err := b.Close(); err != nil {
		b.warn(err)
	}
}
