package layer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/quaymaster/quaymaster/internal/gunzip"
	"github.com/quaymaster/quaymaster/oci"
)

// Options say how a layer is read, and bound what it may grow to. The zero value is for images that
// nobody vouches for and is generous to honest ones.
type Options struct {
	// MaxBytes is the most bytes of tar that are given. 0 means 256 GiB, below
	// 0 any number.
	MaxBytes int64
	// MaxRatio is how many bytes of tar one compressed byte may become once
	// RatioFrom bytes of tar are out: gzip's best is 1032, and real layers that
	// large stay below 100. 0 means 500, below 0 any number.
	MaxRatio int64
	// RatioFrom spares small layers the ratio: many zeros are no bomb. 0 means
	// 1 GiB.
	RatioFrom int64
	// MaxEntries is the most entries that [Walk] and [Pass] read. 0 means 10
	// million, below 0 any number.
	MaxEntries int64
	// NoDiffID spares [Walk] the hash of the tar, about a fourth of its work.
	NoDiffID bool
}

const (
	defaultMaxBytes   = 256 << 30
	defaultMaxRatio   = 500
	defaultRatioFrom  = 1 << 30
	defaultMaxEntries = 10_000_000
	// maxWindow is the most memory that one zstd frame may ask for: what zstd
	// itself takes without further options (--long=27).
	maxWindow = 128 << 20
	// sourceBuffer is less than what gzip's decoder reads at once, which then
	// passes the buffer by.
	sourceBuffer = 32 << 10
)

// A Reader gives the tar of a layer. It is for one goroutine.
type Reader struct {
	codec   Codec
	src     *source
	dec     io.Reader
	release func() // hands dec back to its pool; nil after Close

	n     int64
	holes int64   // bytes that sparse files became, not in n
	opt   Options // with defaults filled in
	err   error
}

// Open opens the layer blob r. One level is opened: a gzip within a gzip comes
// out as a gzip.
//
// Reading to [io.EOF] reads r to its end, so that a check of r's digest has
// happened when EOF is seen; a tar's own end comes earlier. An error of r comes
// out as it is. Damaged compression, and bytes behind its end, match
// [oci.ErrInvalid]; more than opt allows, or a zstd window over 128 MiB, match
// [oci.ErrTooLarge].
//
// Close hands the decoder back. It doesn't close r.
func Open(r io.Reader, opt Options) (*Reader, error) {
	src := &source{r: bufio.NewReaderSize(nil, sourceBuffer)}
	src.r.Reset(&counter{r: r, src: src})
	head, err := src.r.Peek(sniffSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, src.cause(err)
	}
	codec, err := Sniff(head)
	if err != nil {
		return nil, err
	}
	lr := &Reader{codec: codec, src: src, opt: Options{
		MaxBytes:  orDefault(opt.MaxBytes, defaultMaxBytes),
		MaxRatio:  orDefault(opt.MaxRatio, defaultMaxRatio),
		RatioFrom: orDefault(opt.RatioFrom, defaultRatioFrom),
	}}
	switch codec {
	case Gzip:
		err = lr.openGzip()
	case Zstd:
		err = lr.openZstd()
	default:
		lr.dec, lr.release = src.r, func() {}
	}
	if err != nil {
		return nil, src.cause(err)
	}
	return lr, nil
}

func orDefault(n, unset int64) int64 {
	switch {
	case n == 0:
		return unset
	case n < 0:
		return 1<<63 - 1
	}
	return n
}

// Codec gives what the blob was compressed with.
func (r *Reader) Codec() Codec { return r.codec }

func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.dec.Read(p)
	r.n += int64(n)
	switch {
	case r.n > r.opt.MaxBytes:
		n, err = 0, fmt.Errorf("layer: %w: over %d bytes of tar", oci.ErrTooLarge, r.opt.MaxBytes)
	case r.codec != None && r.n > r.opt.RatioFrom && r.n/r.opt.MaxRatio > r.src.n:
		n, err = 0, fmt.Errorf("layer: %w: %d bytes become more than %d: a decompression bomb", oci.ErrTooLarge, r.src.n, r.n)
	case err != nil && r.src.err != nil:
		err = r.src.err
	case errors.Is(err, io.EOF):
		err = r.src.drain()
	case err != nil:
		err = r.src.cause(err)
	}
	r.err = err
	return n, err
}

// Close hands the decoder back to be used again. It doesn't close the blob.
func (r *Reader) Close() error {
	if r.release != nil {
		r.release()
		r.release, r.dec, r.err = nil, nil, fs.ErrClosed
	}
	return nil
}

// Decoders are made once and Reset for each layer.
var gzips, zstds sync.Pool

func (r *Reader) openGzip() error {
	z, ok := gzips.Get().(*gunzip.Reader)
	if !ok {
		z = new(gunzip.Reader)
	}
	release := func() {
		_ = z.Reset(nil) // let go of the blob; the error is that this is no gzip
		gzips.Put(z)
	}
	if err := z.Reset(r.src.r); err != nil {
		release()
		return err
	}
	r.dec, r.release = z, release
	return nil
}

func (r *Reader) openZstd() error {
	z, ok := zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// One goroutine, the caller's: a pool that forgets a decoder leaks none.
		if z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
			return err
		}
	}
	release := func() {
		if z.Reset(nil) == nil { // else it is not to be used again
			zstds.Put(z)
		}
	}
	if err := z.Reset(r.src.r); err != nil {
		release()
		return err
	}
	r.dec, r.release = z, release
	return nil
}

// A source is the blob: it counts what is read and keeps why reading failed,
// since a decoder may say that in words of its own.
type source struct {
	r   *bufio.Reader
	n   int64
	err error // not io.EOF
}

type counter struct {
	r   io.Reader
	src *source
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.src.n += int64(n)
	if err != nil && err != io.EOF {
		c.src.err = err
	}
	return n, err
}

// cause gives the blob's own error rather than err, a decoder's.
func (s *source) cause(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("layer: %w: zstd window over %d MiB: %w", oci.ErrTooLarge, maxWindow>>20, err)
	}
	return fmt.Errorf("layer: %w: %w", oci.ErrInvalid, err)
}

// drain meets the end of the blob, where no more bytes may come. It returns
// io.EOF if all is well.
func (s *source) drain() error {
	_, err := s.r.Peek(1)
	switch {
	case err == io.EOF:
		return io.EOF
	case err != nil:
		return s.cause(err)
	}
	return fmt.Errorf("layer: %w: more bytes behind the end", oci.ErrInvalid)
}
