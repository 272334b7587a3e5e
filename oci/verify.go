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
//
// Who stores what such a reader gives needn't hash it again: see [Checked].
func Verify(rc io.ReadCloser, d Descriptor) io.ReadCloser {
	return &verifier{rc: rc, d: d, hash: d.Digest.Verifier()}
}

// A Checked reader compares the bytes that it gives with a digest, as those of
// [Verify] do. Hashing is most of what a copy into files costs, so it is done
// once: in the very bytes that Read gave, which go into the file as they are.
//
// A wrapper that gives each byte on as it came, and each error but io.EOF as an
// error, may say so too: its Checks is [Checks] of what it wraps. Any other hides
// the method, and then the destination hashes.
type Checked interface {
	io.Reader
	// Checks reports whether the reader, from here to its io.EOF, gives the bytes
	// of d or fails with [ErrDigestMismatch]. It is false once a byte was read.
	Checks(d Digest) bool
}

// Checks reports whether r is [Checked] and checks for d.
func Checks(r io.Reader, d Digest) bool {
	c, ok := r.(Checked)
	return ok && c.Checks(d)
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

// Checks makes it [Checked].
func (v *verifier) Checks(d Digest) bool { return v.d.Digest == d && v.n == 0 && v.err == nil }

func (v *verifier) Close() error { return v.rc.Close() }
