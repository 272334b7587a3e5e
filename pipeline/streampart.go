package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/oci"
)

func digestOf(raw []byte) oci.Digest { return digest.FromBytes(raw) }

// errOnce is given to who opens a part of a stream a second time.
var errOnce = fmt.Errorf("the source gives it once, front to back: %w", oci.ErrAbandoned)

// readAll reads the part b, of at most limit bytes.
func readAll(ctx context.Context, b oci.Blob, limit int64) ([]byte, error) {
	if b.Desc.Size > limit {
		return nil, fmt.Errorf("%w: %d bytes (limit %d)", oci.ErrTooLarge, b.Desc.Size, limit)
	}
	rc, err := b.Open(ctx)
	if err != nil {
		return nil, &brokenError{err}
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, limit+1))
	switch {
	case err != nil:
		return nil, &brokenError{err}
	case int64(len(raw)) > limit:
		return nil, fmt.Errorf("%w: over %d bytes", oci.ErrTooLarge, limit)
	case b.Desc.Digest == "":
		return raw, nil
	}
	if err := oci.ValidDigest(b.Desc.Digest); err != nil {
		return nil, err
	}
	if got := b.Desc.Digest.Algorithm().FromBytes(raw); got != b.Desc.Digest {
		return nil, fmt.Errorf("%w: the %d bytes have %s", oci.ErrDigestMismatch, len(raw), got)
	}
	return raw, nil
}

// A stock is the content of one layer of a stream. The bytes of a small one are
// held in memory, and those of one that waited in a file; others can be read
// once.
type stock struct {
	desc   oci.Descriptor // Digest "" until it is known
	head   *[smallLayer]byte
	first  []byte // what was read of it
	whole  bool   // that is all of it
	from   *spool.Section
	ctx    context.Context
	rc     io.ReadCloser
	cancel context.CancelFunc
	hash   hash.Hash
	n      int64 // bytes that were read of it
	ended  bool  // which are all
	used   bool  // or closed
	broken error // why reading it failed
}

// openPart begins to read the part b. The caller closes the stock.
func openPart(ctx context.Context, b oci.Blob) (*stock, error) {
	if b.Desc.Digest != "" {
		if err := oci.ValidDigest(b.Desc.Digest); err != nil {
			return nil, err
		}
	}
	st := &stock{desc: b.Desc, hash: digest.Canonical.Hash()}
	st.ctx, st.cancel = context.WithCancel(ctx)
	var err error
	if st.rc, err = b.Open(st.ctx); err != nil {
		st.cancel()
		return nil, &brokenError{err}
	}
	if st.desc.Digest != "" {
		st.rc = oci.Verify(st.rc, st.desc)
		st.hash = nil
	}
	st.head = heads.Get().(*[smallLayer]byte)
	n, err := io.ReadFull((*partReader)(st), st.head[:])
	st.first = st.head[:n]
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		st.whole = true
	case err != nil:
		st.close()
		return nil, &brokenError{err}
	}
	return st, nil
}

// spooledStock is the content that was put aside.
func spooledStock(desc oci.Descriptor, from *spool.Section) (*stock, error) {
	st := &stock{desc: desc, from: from, ended: true, cancel: func() {}, n: from.Size(), head: heads.Get().(*[smallLayer]byte)}
	r, err := from.Open()
	if err == nil {
		var n int
		n, err = io.ReadFull(r, st.head[:])
		st.first = st.head[:n]
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		st.close()
		return nil, err
	}
	return st, nil
}

func (st *stock) close() {
	st.cancel()
	if st.rc != nil {
		_ = st.rc.Close() // what was read of it was checked
	}
	heads.Put(st.head)
	st.head, st.first, st.used = nil, nil, true // who kept open has nothing of it
}

// repeats reports whether the content can be read more than once.
func (st *stock) repeats() bool { return st.whole || st.from != nil }

// open begins a pass over the content: the only one, unless it repeats.
func (st *stock) open(ctx context.Context) (io.ReadCloser, error) {
	switch {
	case st.from != nil:
		r, err := st.from.Open()
		return io.NopCloser(spooledReader{ctx, r}), err
	case st.whole && st.head != nil:
		return io.NopCloser(bytes.NewReader(st.first)), nil
	case st.broken != nil:
		return nil, &abandonedError{st.broken}
	case st.used:
		return nil, errOnce
	}
	st.used = true
	// A reader that waits for the source learns at once that nobody waits for it.
	stop := context.AfterFunc(ctx, st.cancel)
	return &oncePass{io.MultiReader(bytes.NewReader(st.first), (*partReader)(st)), stop}, nil
}

type spooledReader struct {
	ctx context.Context
	r   io.Reader
}

func (s spooledReader) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

type oncePass struct {
	io.Reader
	stop func() bool
}

func (p *oncePass) Close() error {
	p.stop()
	return nil
}

// A partReader reads from the stream.
type partReader stock

func (r *partReader) Read(p []byte) (int, error) {
	if r.broken != nil {
		return 0, &abandonedError{r.broken}
	}
	n, err := r.rc.Read(p)
	if r.n += int64(n); r.hash != nil {
		_, _ = r.hash.Write(p[:n]) // a hash never fails
	}
	size := r.desc.Size
	switch {
	case err == nil, errors.Is(err, io.EOF):
		if size > 0 && (r.n > size || err != nil && r.n < size) {
			err = fmt.Errorf("%w: %d bytes of %d", oci.ErrInvalid, r.n, size)
			break
		}
		if err != nil || size > 0 && r.n == size {
			r.end() // who knows the size may not ask for the end of file
		}
		return n, err
	}
	r.broken = err
	return 0, &abandonedError{err}
}

// end notes what all of the content is.
func (r *partReader) end() {
	r.ended, r.desc.Size = true, r.n
	if r.hash != nil {
		r.desc.Digest, r.hash = digest.NewDigest(digest.Canonical, r.hash), nil
	}
}

// drain reads what is left of the content, so that its digest is known.
func (st *stock) drain() error {
	if st.ended {
		return nil
	}
	st.used = true
	if _, err := io.Copy(io.Discard, (*partReader)(st)); err != nil {
		return &brokenError{st.broken}
	}
	return nil
}

// An abandonedError is a failure to read that another attempt of the reader
// can't mend.
type abandonedError struct{ error }

func (e *abandonedError) Unwrap() []error { return []error{e.error, oci.ErrAbandoned} }
