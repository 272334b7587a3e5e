package bulk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A shelf is a destination in memory: synctest knows when all wait on it, which
// it can't of files and sockets.
type shelf struct {
	oci.Destination
	put    map[oci.Digest]int
	closed bool
}

func (s *shelf) Has(context.Context, oci.Descriptor) (bool, error) { return false, nil }

func (s *shelf) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	rc, err := b.Open(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		return oci.Descriptor{}, err
	}
	if s.closed {
		return oci.Descriptor{}, errors.New("closed while a transfer ran")
	}
	s.put[b.Desc.Digest]++
	return b.Desc, nil
}

func (s *shelf) Close() error { s.closed = true; return nil }

// A lane is one image's way through a table.
type lane struct {
	*mover
	shelf  *shelf
	cancel context.CancelFunc
	err    error
	way    pipeline.Way
}

func newLane(b *blobs, name string) *lane {
	s := &shelf{put: map[oci.Digest]int{}}
	return &lane{shelf: s, mover: &mover{blobs: b, home: b.home(name), dest: &berth{Destination: s, holds: 1, warn: func(error) {}}}}
}

// move begins to move p; what comes of it is in l once synctest.Wait says that
// nothing moves.
func (l *lane) move(t *testing.T, p pipeline.Piece) {
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	l.err = errStillMoving
	go func() {
		_, l.way, l.err = l.Move(ctx, p)
		l.dest.release() // as its image ends
	}()
}

var errStillMoving = errors.New("still moving")

// A content is a blob that is read once a test lets it.
type content struct {
	pipeline.Piece
	opened int
	gate   chan error // what reading it comes to
}

func newContent() *content {
	body := []byte("content")
	c := &content{gate: make(chan error)}
	c.Size = int64(len(body))
	c.Blob.Desc = oci.Descriptor{Digest: digest.FromBytes(body), Size: c.Size}
	c.Blob.Open = func(ctx context.Context) (io.ReadCloser, error) {
		c.opened++
		select {
		case err := <-c.gate:
			return io.NopCloser(bytes.NewReader(body)), err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c
}

func inBubble(t *testing.T, do func(t *testing.T, b *blobs, count *transfers)) {
	synctest.Test(t, func(t *testing.T) {
		var count transfers
		b := newBlobs(t.Context(), Options{Blobs: 1}, &count)
		do(t, b, &count)
		b.wait()
	})
}

func TestFlightOutlivesItsImage(t *testing.T) {
	inBubble(t, func(t *testing.T, b *blobs, count *transfers) {
		c, first, second := newContent(), newLane(b, ""), newLane(b, "")
		first.move(t, c.Piece)
		synctest.Wait()
		second.move(t, c.Piece)
		synctest.Wait()
		first.cancel() // its image has failed
		synctest.Wait()
		if !errors.Is(first.err, context.Canceled) || second.err != errStillMoving || first.shelf.closed {
			t.Fatalf("got %v and %v, closed %v; want the first gone, the second waiting, the transfer under way", first.err, second.err, first.shelf.closed)
		}
		c.gate <- nil
		synctest.Wait()
		if second.err != nil || second.way != pipeline.Present || c.opened != 1 || count.takenOver.Load() != 0 {
			t.Errorf("got %v, way %d, opened %d times; want the blob of the first transfer", second.err, second.way, c.opened)
		}
		if !first.shelf.closed {
			t.Error("the destination of the first stays open")
		}
	})
}

func TestFlightThatNobodyWaitsForEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *blobs, _ *transfers) {
		c, only := newContent(), newLane(b, "")
		only.move(t, c.Piece)
		synctest.Wait()
		only.cancel()
		synctest.Wait()
		if !only.shelf.closed || len(b.flights) != 0 {
			t.Errorf("closed %v, %d flights; want the transfer abandoned", only.shelf.closed, len(b.flights))
		}
	})
}

func TestWaitingTakesOver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *blobs, count *transfers) {
		c, first, second := newContent(), newLane(b, "a"), newLane(b, "b")
		first.move(t, c.Piece)
		synctest.Wait()
		second.move(t, c.Piece)
		synctest.Wait()
		if c.opened != 1 {
			t.Fatalf("opened %d times by two who want it", c.opened)
		}
		c.gate <- oci.ErrNotFound
		synctest.Wait()
		if !errors.Is(first.err, oci.ErrNotFound) || second.err != errStillMoving || c.opened != 2 {
			t.Fatalf("got %v and %v, opened %d times; want the second to have begun again", first.err, second.err, c.opened)
		}
		c.gate <- nil
		synctest.Wait()
		if second.err != nil || second.way != pipeline.Fetched || count.takenOver.Load() != 1 || second.shelf.put[c.Blob.Desc.Digest] != 1 {
			t.Errorf("got %v, way %d, taken over %d; want it fetched by the second", second.err, second.way, count.takenOver.Load())
		}
	})
}

// Who waits for another's transfer holds no slot: with one slot in all, another
// blob passes between.
func TestWaitingHoldsNoSlot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *blobs, _ *transfers) {
		c := newContent()
		c.Size = lightBlob + 1
		var lanes []*lane
		for range 5 {
			l := newLane(b, "")
			l.move(t, c.Piece)
			lanes = append(lanes, l)
		}
		synctest.Wait()
		if b.slots.free != 0 {
			t.Fatal("the transfer holds no slot")
		}
		c.gate <- nil
		synctest.Wait()
		if b.slots.free != 1 {
			t.Error("a slot is held by nobody's transfer")
		}
		for i, l := range lanes {
			if l.err != nil {
				t.Errorf("image %d: %v", i, l.err)
			}
		}
	})
}

// A config doesn't wait behind layers: with the only slot taken it passes.
func TestLightBlobsPass(t *testing.T) {
	inBubble(t, func(t *testing.T, b *blobs, _ *transfers) {
		layer, config := newContent(), newContent()
		layer.Size = lightBlob + 1
		config.Blob.Desc.Digest = digest.FromString("config")
		large, light := newLane(b, "a"), newLane(b, "a")
		large.move(t, layer.Piece)
		synctest.Wait()
		light.move(t, config.Piece)
		config.gate <- nil
		synctest.Wait()
		if light.err != nil || large.err != errStillMoving {
			t.Errorf("the config ended with %v, the layer with %v; want the config alone to have ended", light.err, large.err)
		}
		layer.gate <- nil
		synctest.Wait()
		if large.err != nil {
			t.Error(large.err)
		}
	})
}

// A run of a hundred thousand tags sees some hundred thousand blobs.
func TestTableIsSmall(t *testing.T) {
	const n, most = 100_000, 120 // bytes a blob, where each has one home
	var count transfers
	b := newBlobs(t.Context(), Options{}, &count)
	h := b.home("a")
	heap := func() int64 {
		var m runtime.MemStats
		for range 3 { // what other tests left in pools goes with the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range n {
		var k key
		binary.LittleEndian.PutUint64(k[:], uint64(i)*0x9e3779b97f4a7c15)
		b.landed(k, h)
	}
	if got := (heap() - before) / n; got > most {
		t.Errorf("%d bytes a blob, want at most %d", got, most)
	}
	runtime.KeepAlive(b)
}
