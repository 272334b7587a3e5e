package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// attempts is how often the content of one blob is begun before its reading
// counts as failed. Each takes Open anew; what the source's own transport
// repeats is not counted here.
const attempts = 3

// Attempt lets put store b from the reader that it is given, and returns b's
// descriptor with digest and size. A digest or size that b names is checked
// while put reads ([oci.ErrDigestMismatch] in place of io.EOF); an empty digest
// is computed as sha256. Content that checks itself for that digest
// ([oci.Checked]) is counted and not hashed again. Reads that fail are tried again, with a new call of put,
// from the start; other errors of put are not.
func Attempt(ctx context.Context, b oci.Blob, put func(r io.Reader) error) (oci.Descriptor, error) {
	if b.Desc.Digest != "" {
		if err := oci.ValidDigest(b.Desc.Digest); err != nil {
			return oci.Descriptor{}, err
		}
	}
	for n := 1; ; n++ {
		d, err := attempt(ctx, b, put)
		if err == nil || n == attempts || !repeatable(ctx, err) {
			return d, err
		}
		timer := time.NewTimer(time.Duration(n*n) * 100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return oci.Descriptor{}, context.Cause(ctx)
		}
	}
}

func attempt(ctx context.Context, b oci.Blob, put func(r io.Reader) error) (oci.Descriptor, error) {
	rc, err := b.Open(ctx)
	if err != nil {
		return oci.Descriptor{}, &readError{err}
	}
	defer rc.Close()
	m := &measured{ctx: ctx, r: rc, want: b.Desc}
	if b.Desc.Digest == "" {
		m.digester = digest.Canonical.Digester()
	} else if !oci.Checks(rc, b.Desc.Digest) {
		m.digester = b.Desc.Digest.Algorithm().Digester()
	}
	if err := put(m); err != nil {
		return oci.Descriptor{}, err
	}
	if !errors.Is(m.err, io.EOF) {
		return oci.Descriptor{}, fmt.Errorf("only %d bytes were taken: %w", m.n, io.ErrShortWrite)
	}
	return m.desc(), nil
}

// readError marks what came from the content and not from the disk.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

func repeatable(ctx context.Context, err error) bool {
	if _, ok := errors.AsType[*readError](err); !ok || ctx.Err() != nil {
		return false
	}
	for _, final := range []error{oci.ErrNotFound, oci.ErrDenied, oci.ErrUnsupported, oci.ErrTooLarge,
		oci.ErrInvalid, oci.ErrUsage, oci.ErrRefused, oci.ErrMoved, oci.ErrGone, oci.ErrAbandoned} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// measured reads content, hashes it and checks it against want.
type measured struct {
	ctx      context.Context
	r        io.Reader
	want     oci.Descriptor
	digester digest.Digester // nil where r itself checks for want's digest
	n        int64
	err      error
}

func (m *measured) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.err = context.Cause(m.ctx); m.err != nil {
		return 0, m.err
	}
	n, err := m.r.Read(p)
	if m.digester != nil {
		_, _ = m.digester.Hash().Write(p[:n]) // a hash never fails
	}
	m.n += int64(n)
	switch {
	case m.want.Size > 0 && m.n > m.want.Size: // an endless body must not fill the disk
		n, err = 0, &readError{fmt.Errorf("%w: more than %d bytes", oci.ErrDigestMismatch, m.want.Size)}
	case errors.Is(err, io.EOF):
		err = io.EOF
		if bad := m.check(); bad != nil {
			n, err = 0, &readError{bad}
		}
	case err != nil:
		err = &readError{err}
	}
	m.err = err
	return n, err
}

func (m *measured) desc() oci.Descriptor {
	d := m.want
	d.Size = m.n
	if m.digester != nil {
		d.Digest = m.digester.Digest()
	}
	return d
}

func (m *measured) check() error {
	d := m.desc()
	switch {
	case m.want.Size > 0 && d.Size != m.want.Size: // a zero may be one that nobody has measured
		return fmt.Errorf("%w: got %d bytes, want %d", oci.ErrDigestMismatch, d.Size, m.want.Size)
	case m.want.Digest != "" && d.Digest != m.want.Digest:
		return fmt.Errorf("%w: the %d bytes have %s", oci.ErrDigestMismatch, d.Size, d.Digest)
	}
	return nil
}
