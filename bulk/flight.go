package bulk

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

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

// takeOff begins the flight of p into m's home; blob k is in origin already if
// somewhere is set. m.mu is held.
func (m *mover) takeOff(k key, p pipeline.Piece, origin home, somewhere bool) *flight {
	from := ""
	if somewhere {
		from = m.names[origin]
	}
	return m.begin(k, func(f *flight) { f.desc, f.way, f.err = m.carry(f.ctx, p, from, somewhere) })
}

// begin begins a flight of k into m's home: do, with a slot. m.mu is held.
func (m *mover) begin(k key, do func(*flight)) *flight {
	f := &flight{to: m.home, alone: m.alone, wanted: 1, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(m.ctx)
	m.flights[k] = append(m.flights[k], f)
	m.dest.hold()
	m.flying.Go(func() {
		defer f.cancel()
		defer m.dest.release()
		defer m.end(k, f)
		if f.err = m.slots.Acquire(f.ctx, 1); f.err != nil {
			return
		}
		defer m.slots.Release(1)
		do(f)
	})
	return f
}

// carry brings p to m's destination. It holds a slot.
func (m *mover) carry(ctx context.Context, p pipeline.Piece, from string, somewhere bool) (oci.Descriptor, pipeline.Way, error) {
	if somewhere {
		if m.dry {
			return p.Blob.Desc, pipeline.Mounted, nil
		}
		if mounter, ok := m.dest.Destination.(oci.Mounter); ok {
			return m.mount(ctx, mounter, p, from)
		}
	}
	there, err := m.dest.Has(ctx, p.Blob.Desc)
	m.count.asked.Add(1)
	switch {
	case err != nil:
		return oci.Descriptor{}, 0, err
	case there:
		m.count.present.Add(1)
		return p.Blob.Desc, pipeline.Present, nil
	case m.dry:
		return p.Blob.Desc, pipeline.Fetched, nil
	}
	if p.Again {
		m.count.refetched.Add(1)
	}
	return m.put(ctx, p.Blob, pipeline.Fetched)
}

func (m *mover) put(ctx context.Context, b oci.Blob, way pipeline.Way) (oci.Descriptor, pipeline.Way, error) {
	d, err := m.dest.PutBlob(ctx, b)
	if err == nil {
		m.count.put.Add(1)
	}
	return d, way, err
}

// mount takes p over from repository from. Where that is refused its bytes are
// read there, and at the source only if even that isn't allowed.
func (m *mover) mount(ctx context.Context, mounter oci.Mounter, p pipeline.Piece, from string) (oci.Descriptor, pipeline.Way, error) {
	mounted, err := mounter.Mount(ctx, p.Blob.Desc, from)
	if ctx.Err() != nil {
		return oci.Descriptor{}, 0, context.Cause(ctx)
	}
	if err == nil && mounted {
		m.count.mounted.Add(1)
		return p.Blob.Desc, pipeline.Mounted, nil
	}
	m.count.refused.Add(1)
	near := counted{Source: mounter.Sibling(from), blobs: &m.count.relayed, bytes: func(int64) {}}
	var far atomic.Bool
	b := p.Blob
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := near.Fetch(ctx, p.Blob.Desc)
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) {
			far.Store(true)
			return p.Blob.Open(ctx)
		}
		return rc, err
	}
	d, way, err := m.put(ctx, b, pipeline.Relayed)
	if far.Load() {
		way = pipeline.Fetched
	}
	return d, way, err
}

// moveAlone brings p without asking what other images brought.
func (m *mover) moveAlone(ctx context.Context, p pipeline.Piece) (oci.Descriptor, pipeline.Way, error) {
	if err := m.slots.Acquire(ctx, 1); err != nil {
		return oci.Descriptor{}, 0, err
	}
	defer m.slots.Release(1)
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
