package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Tar is what reading a layer to its end told of it.
type Tar struct {
	DiffID  oci.Digest // of all the bytes of the tar, those behind its end marker too; "" if spared
	Size    int64      // of the tar
	Codec   Codec      // what the blob was compressed with, whatever its media type says
	Entries int64
}

// A tape is the tar of a layer as archive/tar reads it: it hashes, obeys ctx,
// keeps why reading failed and remembers whether zeros came last.
type tape struct {
	ctx    context.Context
	r      *Reader
	sum    *sum
	marked int64 // where mark was
	zeros  int64 // at the end of what was read since mark
	err    error // not io.EOF
}

const tarBlock = 512

func (t *tape) Read(p []byte) (int, error) {
	if err := context.Cause(t.ctx); err != nil {
		t.err = err
		return 0, err
	}
	n, err := t.r.Read(p)
	_, _ = t.sum.Write(p[:n])
	tail := p[max(0, n-2*tarBlock):n] // more zeros than that don't matter
	if rest := len(bytes.TrimRight(tail, "\x00")); rest > 0 {
		t.zeros = 0
		tail = tail[rest:]
	}
	t.zeros += int64(len(tail))
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

func (t *tape) mark() { t.marked, t.zeros = t.sum.n, 0 }

// since counts the bytes since mark, and those of them that only fill a block.
func (t *tape) since() (n, padding int64) {
	n = t.sum.n - t.marked
	return n, min(n, (tarBlock-t.marked%tarBlock)%tarBlock)
}

// entries reads the entries of a layer.
type entries struct {
	tape *tape
	tr   *tar.Reader
	last *body // of the entry that was given last
	name string
	n    int64
	max  int64
	bad  bool // it was src that failed
	// global is called with each PAX global header, which is no entry.
	global func(*tar.Header) error
}

func openEntries(ctx context.Context, src io.Reader, opt Options) (*entries, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r, err := Open(src, opt)
	if err != nil {
		return nil, err
	}
	t := &tape{ctx: ctx, r: r, sum: newSum(nil, opt.NoDiffID)}
	return &entries{tape: t, tr: tar.NewReader(t), max: orDefault(opt.MaxEntries, defaultMaxEntries)}, nil
}

func (e *entries) close() { _ = e.tape.r.Close() } // which never fails

// next gives the next entry, io.EOF behind the last. Its body ends the one before.
//
// The header has its fields alone: what PAX records say of them, and how sparse
// files were stored, is gone from PAXRecords, and Xattrs is empty. A sparse file
// is a regular one with all its bytes.
func (e *entries) next() (*oci.Entry, error) {
	for {
		if err := e.skip(); err != nil {
			return nil, err
		}
		h, err := e.tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, e.end()
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return nil, e.cause(err)
		}
		if e.n++; e.n > e.max {
			return nil, fmt.Errorf("layer: %w: over %d entries", oci.ErrTooLarge, e.max)
		}
		e.name = h.Name
		b := &body{e: e, sparse: isSparse(h), global: h.Typeflag == tar.TypeXGlobalHeader}
		e.last = b
		tidy(h)
		if b.global {
			if e.global != nil {
				if err := e.global(h); err != nil {
					return nil, err
				}
			}
			continue
		}
		b.size = h.Size
		return &oci.Entry{Header: h, Body: b}, nil
	}
}

// skip reads what is left of the last body, so that a tar without an end can be
// told from one that was cut off.
func (e *entries) skip() error {
	b := e.last
	if b == nil {
		return nil
	}
	b.stale = true
	if b.sparse {
		return nil // archive/tar skips what is stored and not what it stands for
	}
	if _, err := io.Copy(io.Discard, e.tr); err != nil {
		return e.cause(err)
	}
	e.tape.mark()
	return nil
}

// end gives io.EOF if the tar has an end, or ends right behind a body: some
// programs (umoci 0.4 for one) write no more, and the blob's digest vouches that
// nothing was there. What was cut off elsewhere looks like the end to archive/tar.
func (e *entries) end() error {
	if e.tape.err != nil {
		return e.tape.err
	}
	n, padding := e.tape.since()
	whole := n >= tarBlock && e.tape.zeros >= tarBlock
	if !whole && (n > padding || e.last != nil && e.last.sparse) {
		return e.cause(io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// finish reads what is behind the end marker, and with it the blob to its end.
func (e *entries) finish() (Tar, error) {
	if _, err := io.Copy(io.Discard, e.tape); err != nil {
		return Tar{}, err
	}
	return Tar{DiffID: e.tape.sum.digest(), Size: e.tape.sum.n, Codec: e.tape.r.Codec(), Entries: e.n}, nil
}

// cause gives the blob's own error rather than err, archive/tar's.
func (e *entries) cause(err error) error {
	e.bad = true
	switch {
	case e.tape.err != nil:
		return e.tape.err
	case e.name == "":
		return fmt.Errorf("layer: %w: tar: %w", oci.ErrInvalid, err)
	}
	return fmt.Errorf("layer: %w: tar, at or behind %q: %w", oci.ErrInvalid, e.name, err)
}

// A body is the content of one entry, until the next one is asked for.
type body struct {
	e      *entries
	size   int64
	read   int64
	stale  bool
	sparse bool
	global bool
	// direct: read by whom it was made for, so that it need not be hashed to
	// know it again.
	direct bool
	hash   *maphash.Hash
}

var errStale = errors.New("layer: a body was read after Put returned")

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.stale:
		return 0, errStale
	case b.sparse && b.read == 0:
		if err := b.e.tape.r.allows(b.size); err != nil {
			return 0, fmt.Errorf("sparse file %q: %w", b.e.name, err)
		}
	}
	n, err := b.e.tr.Read(p)
	b.read += int64(n)
	if !b.direct {
		if b.hash == nil {
			b.hash = newHash()
		}
		_, _ = b.hash.Write(p[:n])
	}
	if err != nil && err != io.EOF {
		err = b.e.cause(err)
	}
	return n, err
}

var hashSeed = maphash.MakeSeed()

func newHash() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(hashSeed)
	return h
}

// allows reports as an error that n more bytes, which the tar does not hold but
// stands for, are more than a layer may grow to. What it allows counts.
func (r *Reader) allows(n int64) error {
	sum := r.n + r.holes
	switch {
	case n > r.opt.MaxBytes-sum:
		return fmt.Errorf("layer: %w: over %d bytes of tar", oci.ErrTooLarge, r.opt.MaxBytes)
	case sum+n > r.opt.RatioFrom && (sum+n)/r.opt.MaxRatio > r.src.n:
		return fmt.Errorf("layer: %w: %d bytes become more than %d: a bomb", oci.ErrTooLarge, r.src.n, sum+n)
	}
	r.holes += n
	return nil
}

const gnuSparse = "GNU.sparse."

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, gnuSparse) {
			return true
		}
	}
	return false
}

// isMirror reports whether PAX record k says what a field of the header says, or
// how the tar was written.
func isMirror(k string) bool {
	switch k {
	case "path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "hdrcharset":
		return true
	}
	return strings.HasPrefix(k, gnuSparse)
}

// tidy makes h say each thing once.
func tidy(h *tar.Header) {
	h.Xattrs = nil //nolint:staticcheck // PAXRecords has them too
	maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return isMirror(k) })
	if len(h.PAXRecords) == 0 {
		h.PAXRecords = nil
	}
	if h.Typeflag == tar.TypeGNUSparse {
		h.Typeflag = tar.TypeReg
	}
	if !hasBody(h.Typeflag) {
		h.Size = 0 // hard links are written with their file's size by some
	}
}

// hasBody reports whether bytes follow the header of an entry of this type.
func hasBody(flag byte) bool {
	switch flag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
		return false
	}
	return true
}
