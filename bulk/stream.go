package bulk

import (
	"context"
	"io"
	"iter"

	"github.com/quaymaster/quaymaster/oci"
)

// Dest implements [pipeline.Mover].
func (m *mover) Dest() oci.Destination { return direct{m.dest.Destination, m} }

// A direct is a destination that the parts of a stream are put into in the order
// in which they come. They hold slots and are counted as all others are.
type direct struct {
	oci.Destination
	m *mover
}

func (d direct) Has(ctx context.Context, desc oci.Descriptor) (bool, error) {
	there, err := d.m.has(ctx, desc)
	if there {
		d.landed(desc.Digest)
	}
	return there, err
}

func (d direct) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if err := d.m.slots.acquire(ctx, 1, b.Desc.Size); err != nil {
		return oci.Descriptor{}, err
	}
	defer d.m.slots.release(1)
	desc, err := d.Destination.PutBlob(ctx, b)
	if err == nil {
		d.m.count.put.Add(1)
		d.landed(desc.Digest)
	}
	return desc, err
}

// landed lets other images have the blob from here.
func (d direct) landed(digest oci.Digest) {
	if d.m.alone {
		return
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.landed(keyOf(digest), d.m.home)
}

// countSource gives src with its blobs counted. It can what src can.
func countSource(src oci.Source, c counted) oci.Source {
	c.Source = src
	streamer, streams := src.(oci.Streamer)
	describer, describes := src.(oci.Describer)
	switch {
	case streams && describes:
		return struct {
			streamed
			oci.Describer
		}{streamed{c, streamer}, describer}
	case streams:
		return streamed{c, streamer}
	case describes:
		return struct {
			counted
			oci.Describer
		}{c, describer}
	}
	return c
}

// A streamed is a counted source that is read front to back.
type streamed struct {
	counted
	streamer oci.Streamer
}

// Stream implements [oci.Streamer].
func (s streamed) Stream(ctx context.Context, ref string) iter.Seq2[oci.Blob, error] {
	return func(yield func(oci.Blob, error) bool) {
		for b, err := range s.streamer.Stream(ctx, ref) {
			if open := b.Open; open != nil {
				b.Open = func(ctx context.Context) (io.ReadCloser, error) {
					rc, err := open(ctx)
					if err != nil {
						return nil, err
					}
					return &meter{ReadCloser: rc, counted: s.counted, left: b.Desc.Size}, nil
				}
			}
			if !yield(b, err) {
				return
			}
		}
	}
}
