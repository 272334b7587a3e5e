package stage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// Put stores b as the file that name gives for its digest, and returns its
// descriptor with digest and size. A digest or size that b names is checked
// while the bytes are written ([oci.ErrDigestMismatch]); an empty digest is
// computed as sha256. A file of that name is replaced.
//
// Reads that fail are tried again, from the start; a write that fails is not.
func (s *Stage) Put(ctx context.Context, b oci.Blob, name func(oci.Digest) string) (oci.Descriptor, error) {
	root, err := s.Begin(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	var temp string
	d, err := Attempt(ctx, b, func(r io.Reader) (err error) {
		temp, err = s.fill(root, r)
		return err
	})
	if err != nil {
		return d, err
	}
	if err := place(root, temp, name(d.Digest)); err != nil {
		_ = root.Remove(temp) // the run folder goes at Close
		return oci.Descriptor{}, bare(err)
	}
	return d, nil
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// fill copies r into a synced file of the run folder, and gives its name.
func (s *Stage) fill(root *os.Root, r io.Reader) (string, error) {
	f, temp, err := create(root, s.runFolder())
	if err != nil {
		return "", err
	}
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	// Not f itself: its ReadFrom would take the reader over, with a buffer of its own.
	if _, err = io.CopyBuffer(struct{ io.Writer }{f}, r, buf[:]); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = root.Remove(temp) // the run folder goes at Close
		return "", bare(err)
	}
	return temp, nil
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
