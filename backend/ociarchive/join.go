package ociarchive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// block is what a tar's headers and bodies are padded to.
const block = 512

// join writes a tar of list to f.
func join(ctx context.Context, f *os.File, list []member) error {
	for _, m := range list {
		if err := add(ctx, f, m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	_, err := f.Write(make([]byte, 2*block))
	return err
}

func add(ctx context.Context, f *os.File, m member) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: m.size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if strings.HasSuffix(m.name, "/") {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	// USTAR, and PAX for what it can't say (over 8 GiB): the same bytes always.
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(h); err != nil {
		return err
	}
	if _, err := f.Write(header.Bytes()); err != nil {
		return err
	}
	if m.open == nil {
		return nil
	}
	r, err := m.open()
	if err != nil {
		return err
	}
	n, err := copyBody(ctx, f, r)
	if err == nil && n != m.size {
		err = fmt.Errorf("%d of %d bytes: %w", n, m.size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	if m.ours {
		free(r)
	}
	_, err = f.Write(make([]byte, (block-m.size%block)%block))
	return err
}

// chunk is how much is copied before ctx is asked again.
const chunk = 32 << 20

// copyBody copies r to f: in the kernel, if it is a section of a file and the
// file systems can do it.
func copyBody(ctx context.Context, f *os.File, r io.Reader) (int64, error) {
	var n int64
	if s, ok := r.(*io.SectionReader); ok {
		outer, off, size := s.Outer()
		if from, ok := outer.(*os.File); ok {
			for n < size {
				if err := context.Cause(ctx); err != nil {
					return n, err
				}
				k, err := copyRange(f, from, off+n, min(size-n, chunk))
				n += k
				if err != nil || k == 0 {
					break // the rest as it always works; a true error comes again
				}
			}
			r = io.NewSectionReader(from, off+n, size-n)
		}
	}
	buf := make([]byte, 128<<10)
	for {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if k > 0 {
			if _, err := f.Write(buf[:k]); err != nil {
				return n, err
			}
			n += int64(k)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// copyRange appends bytes of from, which stays where it stands.
func copyRange(to, from *os.File, off, size int64) (int64, error) {
	for {
		n, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), nil, int(size), 0)
		if !errors.Is(err, unix.EINTR) {
			return max(int64(n), 0), err
		}
	}
}

// free gives the space of r, a section of a file, back to the disk. Where that
// can't be done it is free when the file is closed.
func free(r io.Reader) {
	if s, ok := r.(*io.SectionReader); ok && s.Size() > 0 {
		outer, off, size := s.Outer()
		if f, ok := outer.(*os.File); ok {
			_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size)
		}
	}
}
