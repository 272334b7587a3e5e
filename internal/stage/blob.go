package stage

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// attempts is how often the content of one blob is begun before its reading
// counts as failed. Each takes Open anew; what the source's own transport
// repeats is not counted here.
const attempts = 3

// Put stores b as the file that name gives for its digest, and returns its
// descriptor with digest and size. A digest or size that b names is checked
// while the bytes are written ([oci.ErrDigestMismatch]); an empty digest is
// computed as sha256. A file of that name is replaced.
//
// Reads that fail are tried again, from the start; a write that fails is not.
func (s *Stage) Put(ctx context.Context, b oci.Blob, name func(oci.Digest) string) (oci.Descriptor, error) {
	if b.Desc.Digest != "" {
		if err := oci.ValidDigest(b.Desc.Digest); err != nil {
			return oci.Descriptor{}, err
		}
	}
	root, err := s.Begin(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	for attempt := 1; ; attempt++ {
		d, err := s.put(ctx, root, b, name)
		if err == nil || attempt == attempts || !repeatable(ctx, err) {
			return d, err
		}
		timer := time.NewTimer(time.Duration(attempt*attempt) * 100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return oci.Descriptor{}, context.Cause(ctx)
		}
	}
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

func (s *Stage) put(ctx context.Context, root *os.Root, b oci.Blob, name func(oci.Digest) string) (oci.Descriptor, error) {
	rc, err := b.Open(ctx)
	if err != nil {
		return oci.Descriptor{}, &readError{err}
	}
	defer rc.Close()
	f, temp, err := create(root, s.runFolder())
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := fill(ctx, f, rc, b.Desc)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(root, temp, name(d.Digest))
	}
	if err != nil {
		_ = root.Remove(temp) // the run folder goes at Close
		return oci.Descriptor{}, bare(err)
	}
	return d, nil
}

// fill copies rc to f and checks it against want.
func fill(ctx context.Context, f *os.File, rc io.Reader, want oci.Descriptor) (oci.Descriptor, error) {
	algorithm := digest.Canonical
	if want.Digest != "" {
		algorithm = want.Digest.Algorithm()
	}
	h := algorithm.Hash()
	if want.Size > 0 {
		rc = io.LimitReader(rc, want.Size+1) // an endless body must not fill the disk
	}
	n, err := copyBlob(ctx, f, h, rc)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d := want
	d.Digest, d.Size = digest.NewDigest(algorithm, h), n
	switch {
	case want.Size > 0 && n != want.Size: // a zero may be one that nobody has measured
		err = fmt.Errorf("%w: got %d bytes, want %d", oci.ErrDigestMismatch, n, want.Size)
	case want.Digest != "" && d.Digest != want.Digest:
		err = fmt.Errorf("%w: the %d bytes have %s", oci.ErrDigestMismatch, n, d.Digest)
	default:
		return d, nil
	}
	return oci.Descriptor{}, &readError{err}
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

func copyBlob(ctx context.Context, f io.Writer, h hash.Hash, rc io.Reader) (int64, error) {
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	var n int64
	for {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		k, err := rc.Read(buf[:])
		if k > 0 {
			_, _ = h.Write(buf[:k]) // a hash never fails
			n += int64(k)
			if _, err := f.Write(buf[:k]); err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, &readError{err}
		}
	}
}

// bare takes the temporary file's name off an error of the file system: the
// place that reports it names the folder and the blob.
func bare(err error) error {
	if _, read := errors.AsType[*readError](err); read {
		return err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// place gives the synced file temp its final name.
func place(root *os.Root, temp, name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return root.Rename(temp, name)
}
