package tarfile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quaymaster/quaymaster/internal/gunzip"
	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/oci"
)

// maxWindow is the most memory that a zstd frame may ask for: what zstd itself
// takes without further options.
const maxWindow = 128 << 20

// Open opens the archive at path: a tar, perhaps in gzip or zstd, in a file or a
// pipe. What can't be read at random is spooled, decompressed, in [os.TempDir].
// ctx rules Open alone.
//
// Errors name the file and match [oci.ErrNotFound], [oci.ErrUsage] for a folder,
// [oci.ErrInvalid] for what is no tar or ends too early, [oci.ErrUnsupported] for
// another compression, [oci.ErrTooLarge] for over a million members, 64 MiB of
// names, or a decompression bomb.
func Open(ctx context.Context, path string) (*File, error) {
	a, err := open(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: there is no such file", oci.ErrNotFound)
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok && p.Path == path {
		err = p.Err
	}
	return a, oci.Wrap(err, "open archive", path, oci.Descriptor{})
}

// Read is [Open] of what r gives, spooled; name is what errors call it.
func Read(ctx context.Context, r io.Reader, name string) (*File, error) {
	a, err := read(ctx, r, name)
	return a, oci.Wrap(err, "read archive", name, oci.Descriptor{})
}

// Index is [Open] of a tar that is open already, from its start; name is what
// errors call it. Close of the result closes f, and so does an error.
func Index(ctx context.Context, f *os.File, name string) (*File, error) {
	a, err := index(ctx, f, name)
	return a, oci.Wrap(err, "read archive", name, oci.Descriptor{})
}

func open(ctx context.Context, path string) (*File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return nil, oci.Usage(path + " is a folder; name a file")
	}
	f, err := openFile(ctx, path)
	if err != nil {
		return nil, err
	}
	if fi, err = f.Stat(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !fi.Mode().IsRegular() {
		// A read that waits for a pipe ends with ctx; other devices don't wait.
		stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		a, err := read(ctx, f, path)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		return a, errors.Join(err, f.Close())
	}
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	codec, err := sniff(head[:n])
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if codec != plain {
		a, err := read(ctx, f, path)
		return a, errors.Join(err, f.Close())
	}
	return index(ctx, f, path)
}

// openFile opens path; where that waits for the other end of a pipe, until ctx
// ends.
func openFile(ctx context.Context, path string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		f, err := os.Open(path)
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.f, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.f.Close() // nobody reads it
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// read spools r.
func read(ctx context.Context, r io.Reader, name string) (*File, error) {
	in := &within{ctx: ctx, r: r}
	br := bufio.NewReaderSize(in, 128<<10)
	head, err := br.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	codec, err := sniff(head)
	if err != nil {
		return nil, err
	}
	dec, done, err := codec.open(br)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	defer done()
	if codec != plain {
		dec = &inflated{r: dec, in: in, from: ratioFrom}
	}
	f, err := spool.New("", name)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{dec}, make([]byte, 128<<10)); err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); !ok && codec != plain && ctx.Err() == nil && !errors.Is(err, oci.ErrTooLarge) {
			err = fmt.Errorf("%w: %s: %w", oci.ErrInvalid, codec, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return index(ctx, f, name)
}

// within is a reader that counts, and fails once ctx has ended.
type within struct {
	ctx context.Context
	r   io.Reader
	n   int64
}

func (w *within) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.n += int64(n)
	return n, err
}

// What an archive may grow to, as layers may: over ratioFrom bytes, maxRatio times
// what it is compressed.
const (
	maxRatio  = 500
	ratioFrom = 1 << 30
)

// inflated keeps a bomb from filling the disk.
type inflated struct {
	r    io.Reader
	in   *within
	from int64
	n    int64
}

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if i.n += int64(n); i.n > i.from && i.n/maxRatio > i.in.n {
		return 0, fmt.Errorf("%w: %d bytes become more than %d: a decompression bomb", oci.ErrTooLarge, i.in.n, i.n)
	}
	return n, err
}

// index reads the headers of f, which it closes if there is an error.
func index(ctx context.Context, f *os.File, name string) (*File, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a := &File{name: name, f: f, size: fi.Size(), members: map[string]*entry{}}
	if err := a.index(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

func (a *File) index(ctx context.Context) error {
	if a.size == 0 {
		return fmt.Errorf("%w: the file is empty", oci.ErrInvalid)
	}
	// It reads blocks of 512 bytes and nothing ahead, so that the place of a body
	// is where the section stands behind its header.
	section := io.NewSectionReader(a.f, 0, a.size)
	tr := tar.NewReader(section)
	names := 0
	for n := 0; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return a.damage(err, n)
		}
		if n == maxMembers {
			return fmt.Errorf("%w: over %d members", oci.ErrTooLarge, maxMembers)
		}
		off, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		e := &entry{kind: kind(h), copies: 1, off: off, size: h.Size, link: h.Linkname}
		if e.kind == tar.TypeReg && e.size > a.size-off {
			return fmt.Errorf("%.200q: %w: %w: %d bytes are claimed, %d are there", h.Name, oci.ErrInvalid, errTruncated, e.size, a.size-off)
		}
		key, ok := clean(h.Name)
		if !ok || e.kind == tar.TypeDir || e.kind == tar.TypeXGlobalHeader {
			continue // the top folder, or a name that nobody asks for
		}
		if len(h.Name) > maxName || len(h.Linkname) > maxName {
			return fmt.Errorf("a name: %w: over %d bytes", oci.ErrTooLarge, maxName)
		}
		if names += len(key) + len(e.link); names > maxNames {
			return fmt.Errorf("%w: over %d MiB of names", oci.ErrTooLarge, maxNames>>20)
		}
		if was := a.members[key]; was != nil {
			e.copies += was.copies
		} else {
			key = strings.Clone(key) // not with the header that it may be a part of
			a.order = append(a.order, key)
		}
		a.members[key] = e
	}
}

// kind gives the type of h: all that have a body as it is are regular files.
func kind(h *tar.Header) byte {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return tar.TypeGNUSparse
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont:
		return tar.TypeReg
	}
	return h.Typeflag
}

// damage says what err, of the header behind n members, means.
func (a *File) damage(err error, n int) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w at %d bytes", oci.ErrInvalid, errTruncated, a.size)
	case errors.Is(err, tar.ErrHeader) && n == 0:
		return fmt.Errorf("%w: it is no tar archive", oci.ErrInvalid)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: no header behind %d members: %w", oci.ErrInvalid, n, err)
	case errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("%w: %w", oci.ErrTooLarge, err)
	}
	return err
}

// codec is how an archive is compressed.
type codec string

const (
	plain      codec = ""
	gzipCodec  codec = "gzip"
	zstdCodec  codec = "zstd"
	headSize         = 512
	otherCodec       = "%w: compressed with %s; decompress it first, gzip and zstd are known"
)

// sniff tells by the first bytes.
func sniff(head []byte) (codec, error) {
	switch {
	case len(head) == headSize && string(head[257:262]) == "ustar":
		return plain, nil // whatever the first member is called
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipCodec, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zstdCodec, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return plain, fmt.Errorf(otherCodec, oci.ErrUnsupported, "bzip2")
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return plain, fmt.Errorf(otherCodec, oci.ErrUnsupported, "xz")
	}
	return plain, nil
}

func (c codec) open(r io.Reader) (io.Reader, func(), error) {
	switch c {
	case gzipCodec:
		z := new(gunzip.Reader)
		return z, func() {}, z.Reset(r)
	case zstdCodec:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}
