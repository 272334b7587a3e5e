package extract

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/umoci/pkg/fseval"

	"github.com/quaymaster/quaymaster/oci"
)

type unixStat = syscall.Stat_t

// Sums remember what was put where, some 50 bytes for each path. The zero value is
// ready. It is for one extraction at a time.
type Sums struct {
	mu   sync.Mutex
	puts map[uint64]put
}

type put struct {
	flag byte
	size int64
	sum  uint64
}

// Reset forgets.
func (s *Sums) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = nil
}

var bodySeed = maphash.MakeSeed()

// summed hashes what is read.
type summed struct {
	io.Reader
	h   maphash.Hash
	buf []byte
}

// WriteTo spares [io.Copy] a buffer for each file.
func (s *summed) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := s.Read(s.buf)
		if n > 0 {
			written, err := w.Write(s.buf[:n])
			if total += int64(written); err != nil {
				return total, err
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	_, _ = s.h.Write(p[:n])
	return n, err
}

func (s *Sums) begin(r io.Reader, buf []byte) io.Reader {
	b := &summed{Reader: r, buf: buf}
	b.h.SetSeed(bodySeed)
	return b
}

func (s *Sums) end(rel string, flag byte, size int64, r io.Reader) {
	if s == nil {
		return
	}
	p := put{flag: flag, size: size}
	if b, ok := r.(*summed); ok {
		p.sum = b.h.Sum64()
	}
	s.set(rel, p)
}

// link says that rel is what target is.
func (s *Sums) link(rel, target string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	p, ok := s.puts[hashPath(target)]
	s.mu.Unlock()
	if !ok {
		p = put{flag: tar.TypeLink} // of what wasn't seen
	}
	s.set(rel, p)
}

func (s *Sums) set(rel string, p put) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.puts == nil {
		s.puts = map[uint64]put{}
	}
	s.puts[hashPath(rel)] = p
}

// A Tree is what there is in a folder.
type Tree struct {
	Entries int64 // without the root
	Bytes   int64 // of regular files, each name counted
}

// Count counts what there is in dir.
func Count(ctx context.Context, dir string) (Tree, error) { return check(ctx, dir, nil, false) }

// Check is Count, and compares each entry with what was put there: its type and
// size, with full also the content of regular files. The error matches
// [oci.ErrDigestMismatch] if something differs.
func (s *Sums) Check(ctx context.Context, dir string, full bool) (Tree, error) {
	return check(ctx, dir, s, full)
}

func check(ctx context.Context, dir string, s *Sums, full bool) (Tree, error) {
	fsys := userFS()
	var t Tree
	err := fsys.Walk(dir, func(name string, fi fs.FileInfo, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		t.Entries++
		if fi.Mode().IsRegular() {
			t.Bytes += fi.Size()
		}
		if s == nil {
			return nil
		}
		return s.compare(ctx, fsys, name, rel, fi, full)
	})
	return t, err
}

func (s *Sums) compare(ctx context.Context, fsys fseval.FsEval, name, rel string, fi fs.FileInfo, full bool) error {
	s.mu.Lock()
	want, ok := s.puts[hashPath(rel)]
	s.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("%s: %w: no layer has it", rel, oci.ErrDigestMismatch)
	case !want.is(fi.Mode()):
		return fmt.Errorf("%s: %w: its type is %s", rel, oci.ErrDigestMismatch, fi.Mode().Type())
	case want.flag != tar.TypeReg:
		return nil
	case fi.Size() != want.size:
		return fmt.Errorf("%s: %w: %d bytes, want %d", rel, oci.ErrDigestMismatch, fi.Size(), want.size)
	case !full:
		return nil
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := &summed{Reader: ctxReader{ctx, f}, buf: make([]byte, min(bufSize, want.size+1))}
	b.h.SetSeed(bodySeed)
	if _, err := b.WriteTo(io.Discard); err != nil {
		return err
	}
	if b.h.Sum64() != want.sum {
		return fmt.Errorf("%s: %w: its content is another", rel, oci.ErrDigestMismatch)
	}
	return nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// userFS reads and removes also what the user has shut himself out of.
func userFS() fseval.FsEval {
	if os.Geteuid() != 0 {
		return fseval.Rootless
	}
	return fseval.Default
}

// Remove removes dir and all below it, as [os.RemoveAll] does, also directories
// that the user may not read though they are his.
func Remove(dir string) error {
	err := userFS().RemoveAll(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// is reports whether a file of mode m can be what was put. A hard link is as what
// it links to, and a device may be an empty file.
func (p put) is(m fs.FileMode) bool {
	switch p.flag {
	case tar.TypeReg:
		return m.IsRegular()
	case tar.TypeDir:
		return m.IsDir()
	case tar.TypeSymlink:
		return m&fs.ModeSymlink != 0
	case tar.TypeFifo:
		return m&fs.ModeNamedPipe != 0
	case tar.TypeLink:
		return !m.IsDir()
	}
	return m&fs.ModeDevice != 0 || m.IsRegular()
}
