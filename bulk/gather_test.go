package bulk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A harbour is a registry in memory that doesn't mount; see [shelf] for why.
type harbour struct {
	mu      sync.Mutex
	blobs   map[string]map[oci.Digest][]byte // by repository
	reads   int                              // of blobs there
	shut    string                           // a repository that takes nothing
	slow    string                           // one that answers mounts once answers is closed
	answers chan struct{}
}

func (h *harbour) has(repo string, d oci.Digest) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blobs[repo][d]
}

func (h *harbour) put(repo string, raw []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blobs[repo] == nil {
		h.blobs[repo] = map[oci.Digest][]byte{}
	}
	h.blobs[repo][digest.FromBytes(raw)] = raw
}

// A pier is a repository of a harbour as one image's destination.
type pier struct {
	oci.Destination
	*harbour
	repo   string
	closed bool
}

var errDenied = errors.New("denied")

func (p *pier) Has(_ context.Context, d oci.Descriptor) (bool, error) {
	return p.has(p.repo, d.Digest) != nil, nil
}

func (p *pier) Mount(ctx context.Context, d oci.Descriptor, from string) (bool, error) {
	if p.repo == p.slow {
		<-p.answers
	}
	return from == p.repo && p.has(p.repo, d.Digest) != nil, ctx.Err()
}

func (p *pier) Sibling(repo string) oci.Source { return &pier{harbour: p.harbour, repo: repo} }

func (p *pier) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	p.mu.Lock()
	p.reads++
	p.mu.Unlock()
	return io.NopCloser(bytes.NewReader(p.has(p.repo, d.Digest))), nil
}

// PutBlob is as a registry's: what proves to be wrong is read again.
func (p *pier) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if p.repo == p.shut {
		return oci.Descriptor{}, errDenied
	}
	for try := 1; ; try++ {
		raw, err := read(ctx, b)
		switch {
		case err == nil && digest.FromBytes(raw) == b.Desc.Digest:
			p.put(p.repo, raw)
			return b.Desc, nil
		case !errors.Is(err, oci.ErrDigestMismatch) || try == 3:
			return oci.Descriptor{}, err
		}
	}
}

func read(ctx context.Context, b oci.Blob) ([]byte, error) {
	rc, err := b.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func (p *pier) Close() error { p.closed = true; return nil }

// A fleet is the images of a window that all need one blob.
type fleet struct {
	*harbour
	*blobs
	count  *transfers
	raw    []byte
	images []*sailor

	mu    sync.Mutex
	reads []int      // the images whose source was read, in order
	gate  chan error // what each read there comes to; nil is the blob
}

// A sailor is one image of a fleet.
type sailor struct {
	*mover
	piece  pipeline.Piece
	pier   *pier
	cancel context.CancelFunc
	way    pipeline.Way
	err    error
}

func withFleet(t *testing.T, n int, do func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		var count transfers
		f := &fleet{
			harbour: &harbour{blobs: map[string]map[oci.Digest][]byte{}}, blobs: newBlobs(t.Context(), Options{Blobs: 2}, &count),
			count: &count, raw: bytes.Repeat([]byte("blob"), 100_000), gate: make(chan error),
		}
		f.blobs.mounts.state = mountsRefused
		for i := range n {
			f.add(i)
		}
		do(t, f)
		for _, s := range f.images {
			s.forget()
		}
		f.blobs.wait()
		synctest.Wait()
		for i, s := range f.images {
			if s.dest.release(); !s.pier.closed {
				t.Errorf("image %d: its destination is held by nobody", i)
			}
		}
		if f.slots.free != 2 || len(f.flights)+len(f.wants) != 0 {
			t.Errorf("%d slots free, flights %v, wants %v; want nothing left", f.slots.free, f.flights, f.wants)
		}
	})
}

func (f *fleet) add(i int) {
	p := &pier{harbour: f.harbour, repo: string(rune('a' + i))}
	s := &sailor{pier: p, err: errStillMoving, mover: &mover{
		blobs: f.blobs, home: f.home(p.repo), to: oci.Ref{Repository: p.repo}, dest: &berth{Destination: p, holds: 1, warn: func(error) {}},
	}}
	s.piece.Size = int64(len(f.raw))
	s.piece.Blob.Desc = oci.Descriptor{Digest: digest.FromBytes(f.raw), Size: s.piece.Size}
	s.piece.Blob.Open = func(ctx context.Context) (io.ReadCloser, error) {
		f.mu.Lock()
		f.reads = append(f.reads, i)
		f.mu.Unlock()
		select {
		case err := <-f.gate:
			return io.NopCloser(bytes.NewReader(f.raw)), err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	s.foresee([]pipeline.Piece{s.piece})
	f.images = append(f.images, s)
}

// move lets image i ask for the blob.
func (f *fleet) move(t *testing.T, i int) {
	s := f.images[i]
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(t.Context())
	go func() { _, s.way, s.err = s.Move(ctx, s.piece) }()
	synctest.Wait()
}

// answer lets the next read at the source come to err.
func (f *fleet) answer(err error) {
	f.gate <- err
	synctest.Wait()
}

func (f *fleet) wantReads(t *testing.T, images ...int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.reads, images) {
		t.Errorf("read at the sources of images %v, want %v", f.reads, images)
	}
}

// wantAll says that all images but these have the blob.
func (f *fleet) wantAll(t *testing.T, but ...int) {
	t.Helper()
	for i, s := range f.images {
		if there := f.has(s.pier.repo, s.piece.Blob.Desc.Digest) != nil; there == slices.Contains(but, i) {
			t.Errorf("image %d has it: %v", i, there)
		}
	}
}

func TestOneReadFeedsAll(t *testing.T) {
	withFleet(t, 5, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		f.answer(nil)
		f.wantAll(t)
		for i := range f.images {
			f.move(t, i)
		}
		f.wantReads(t, 0)
		if f.count.put.Load() != 5 || f.count.shared.Load() != 4 || f.harbour.reads != 0 {
			t.Errorf("%d put, %d shared, %d read there; want 5, 4, 0", f.count.put.Load(), f.count.shared.Load(), f.harbour.reads)
		}
		for i, s := range f.images[1:] {
			if s.err != nil || s.way != pipeline.Relayed {
				t.Errorf("image %d: way %d, %v", i+1, s.way, s.err)
			}
		}
	})
}

// What the destination has somewhere is read there, once for all.
func TestOneReadAtTheDestinationFeedsAll(t *testing.T) {
	withFleet(t, 5, func(t *testing.T, f *fleet) {
		k := keyOf(f.images[0].piece.Blob.Desc.Digest)
		f.harbour.put("a", f.raw)
		f.landed(k, f.images[0].home)
		f.move(t, 3)
		f.wantAll(t)
		f.wantReads(t)
		if f.harbour.reads != 1 || f.count.relayed.Load() != 1 || f.count.shared.Load() != 3 || f.images[3].way != pipeline.Relayed {
			t.Errorf("read %d times there, %d relayed, %d shared; want 1, 1, 3", f.harbour.reads, f.count.relayed.Load(), f.count.shared.Load())
		}
	})
}

func TestHomeThatHasItIsLeftAlone(t *testing.T) {
	withFleet(t, 3, func(t *testing.T, f *fleet) {
		f.harbour.put("b", f.raw)
		f.move(t, 0)
		f.wantAll(t) // a and c have it from b
		f.move(t, 1)
		f.wantReads(t)
		if f.count.put.Load() != 2 || f.images[1].way != pipeline.Present {
			t.Errorf("%d put, way %d; want 2 and one present", f.count.put.Load(), f.images[1].way)
		}
	})
}

func TestUploadThatFailsFailsAlone(t *testing.T) {
	withFleet(t, 4, func(t *testing.T, f *fleet) {
		f.shut = "c"
		f.move(t, 0)
		f.answer(nil)
		f.wantAll(t, 2)
		f.wantReads(t, 0)
		f.move(t, 2)
		if f.images[2].err != errDenied {
			t.Errorf("got %v, want its own refusal", f.images[2].err)
		}
	})
}

// The image whose source was read may be the one that can't have it.
func TestOthersReadForThemselvesWhatOneCannot(t *testing.T) {
	withFleet(t, 3, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		f.answer(oci.ErrDenied)
		if !errors.Is(f.images[0].err, oci.ErrDenied) || len(f.reads) != 2 {
			t.Fatalf("got %v and reads %v, want one failure and one other that reads", f.images[0].err, f.reads)
		}
		f.answer(nil)
		f.wantAll(t, 0)
		if f.harbour.reads != 1 || f.count.takenOver.Load() != 2 {
			t.Errorf("%d reads there, %d taken over; want the last to read at the destination", f.harbour.reads, f.count.takenOver.Load())
		}
	})
}

func TestConvoyOutlivesWhoAsked(t *testing.T) {
	withFleet(t, 3, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		f.images[0].cancel()
		synctest.Wait()
		f.answer(nil)
		f.wantAll(t, 0)
		f.wantReads(t, 0)
	})
}

func TestConvoyThatNobodyWantsEnds(t *testing.T) {
	withFleet(t, 3, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		f.images[0].cancel()
		for _, s := range f.images {
			s.forget()
		}
		synctest.Wait()
		f.wantAll(t, 0, 1, 2)
		if len(f.flights) != 0 {
			t.Errorf("%d flights go on", len(f.flights))
		}
	})
}

// Wrong bytes are read as often for many as for one.
func TestBrokenContentOfMany(t *testing.T) {
	withFleet(t, maxRiders, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		for range maxFaults {
			f.answer(oci.ErrDigestMismatch)
		}
		if f.move(t, 5); !errors.Is(f.images[5].err, oci.ErrDigestMismatch) || len(f.reads) != maxFaults {
			t.Errorf("got %v after %d reads, want an end after %d", f.images[5].err, len(f.reads), maxFaults)
		}
	})
}

// One that takes long to say whether it has the blob holds nobody up for long.
func TestSlowAnswerHoldsNobodyUp(t *testing.T) {
	withFleet(t, 4, func(t *testing.T, f *fleet) {
		f.slow, f.answers = "b", make(chan struct{})
		f.move(t, 0)
		f.wantReads(t)
		time.Sleep(lookPatience)
		synctest.Wait()
		f.answer(nil)
		f.wantAll(t, 1)
		if f.slots.free != 1 {
			t.Errorf("%d slots are free, want all but that of the last upload", f.slots.free)
		}
		close(f.answers)
		synctest.Wait()
		f.wantAll(t)
		f.wantReads(t, 0)
	})
}

// No more than one read feeds are begun ahead; who is left finds the blob there.
func TestConvoyIsBounded(t *testing.T) {
	withFleet(t, maxRiders+3, func(t *testing.T, f *fleet) {
		f.move(t, 0)
		f.answer(nil)
		if got := f.count.put.Load(); got != maxRiders {
			t.Errorf("%d uploads from one read, want %d", got, maxRiders)
		}
		f.move(t, maxRiders)
		f.wantAll(t)
		f.wantReads(t, 0)
		if f.harbour.reads != 1 {
			t.Errorf("%d reads there, want one for those that were left", f.harbour.reads)
		}
	})
}
