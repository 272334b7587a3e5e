package registry

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/oci"
)

// smallBlob is the most bytes of a blob that is read once and sent from memory
// as often as it takes.
const smallBlob = 1 << 20

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, smallBlob)) }}

// A replay is a small blob in memory. The transport may hold a body longer than
// its request lasts, so the buffer goes back when the last reader is closed.
type replay struct {
	buf  *bytes.Buffer
	refs atomic.Int32
}

// remember reads b, once, and gives a blob whose Open reads from memory.
// release is to be called when no further pass begins.
func remember(ctx context.Context, b oci.Blob) (again oci.Blob, release func(), err error) {
	p := newPass(ctx, b, "")
	r := &replay{buf: buffers.Get().(*bytes.Buffer)}
	r.refs.Add(1)
	r.buf.Reset()
	_, err = io.Copy(r.buf, p)
	if _, _, own := p.end(); own != nil {
		err = own
	}
	if err != nil {
		r.release()
		return oci.Blob{}, nil, err
	}
	again = b
	again.Open = func(context.Context) (io.ReadCloser, error) {
		r.refs.Add(1)
		return &reader{Reader: bytes.NewReader(r.buf.Bytes()), close: sync.OnceFunc(r.release)}, nil
	}
	return again, r.release, nil
}

func (r *replay) release() {
	if r.refs.Add(-1) == 0 {
		buffers.Put(r.buf)
	}
}

type reader struct {
	*bytes.Reader
	close func()
}

func (r *reader) Close() error { r.close(); return nil }
