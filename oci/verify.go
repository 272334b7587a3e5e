package oci

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// Verify returns a reader of rc that fails with [ErrDigestMismatch] if the
// bytes are not d's. The failure comes in place of the last bytes and never
// after them, so a consumer that stops at d.Size bytes can't miss it. d.Size
// below 0 means unknown; then the failure comes in place of io.EOF.
func Verify(rc io.ReadCloser, d Descriptor) io.ReadCloser {
	return &verifier{rc: rc, d: d, hash: d.Digest.Verifier()}
}

type verifier struct {
	rc   io.ReadCloser
	d    Descriptor
	hash digest.Verifier
	n    int64
	err  error
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.rc.Read(p)
	_, _ = v.hash.Write(p[:n]) // a hash never fails
	v.n += int64(n)
	switch {
	case v.d.Size >= 0 && v.n > v.d.Size:
		return v.fail(fmt.Errorf("%w: more than the %d bytes of its descriptor", ErrDigestMismatch, v.d.Size))
	case err == io.EOF && v.d.Size >= 0 && v.n < v.d.Size:
		return v.fail(fmt.Errorf("%w: %d of %d bytes: %w", ErrDigestMismatch, v.n, v.d.Size, io.ErrUnexpectedEOF))
	case err == io.EOF || v.n == v.d.Size:
		if !v.hash.Verified() {
			return v.fail(fmt.Errorf("%w: the %d bytes are not those of %s", ErrDigestMismatch, v.n, v.d.Digest))
		}
	}
	v.err = err
	return n, err
}

func (v *verifier) fail(err error) (int, error) {
	v.err = err
	return 0, err
}

func (v *verifier) Close() error { return v.rc.Close() }
