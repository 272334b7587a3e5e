package layer

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// An encoder compresses one layer. Close ends it, abort gives it up: after
// either, which wait for its goroutines, it must not be used again. Neither
// closes what it writes to.
type encoder interface {
	io.Writer
	Close() error
	abort()
}

// encoder gives an encoder of c that writes to w.
func (c Codec) encoder(w io.Writer) (encoder, error) {
	switch c {
	case Gzip:
		return newGzipWriter(w, blocks), nil
	case Zstd:
		return newZstdWriter(w)
	case None:
		return plainWriter{w}, nil
	}
	return nil, fmt.Errorf("layer codec %q: %w", c, oci.ErrUnsupported)
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }
func (plainWriter) abort()       {}

const (
	// zstdWindow is that of zstd's own level 3. A larger one would cost memory
	// for each layer at work.
	zstdWindow = 2 << 20
	// zstdWorkers is fixed: one goroutine finds matches, one codes and writes.
	zstdWorkers = 2
)

// A zstdWriter is an encoder at zstd's level 3.
type zstdWriter struct{ z *zstd.Encoder }

// idleZstds are encoders that wait for the next layer: as many as there are cores,
// and two at one core, which has two layers at work.
var idleZstds = make(chan *zstd.Encoder, max(2, runtime.GOMAXPROCS(0)))

func newZstdWriter(w io.Writer) (encoder, error) {
	select {
	case z := <-idleZstds:
		z.Reset(w)
		return &zstdWriter{z}, nil
	default:
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(zstdWorkers),
		zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, err
	}
	return &zstdWriter{z}, nil
}

func (z *zstdWriter) Write(p []byte) (int, error) { return z.z.Write(p) }

func (z *zstdWriter) Close() error {
	err := z.z.Close()
	z.abort()
	return err
}

func (z *zstdWriter) abort() {
	if z.z == nil {
		return
	}
	z.z.Reset(nil) // waits for its goroutines and lets go of w
	select {
	case idleZstds <- z.z:
	default:
	}
	z.z = nil
}

// tarVersion is raised when the tar of the same entries becomes other bytes.
const tarVersion = 1

// ID names all that c's output depends on beside the entries: how tars are
// written, library, version, level, block. Equal IDs promise equal bytes, on any
// machine and with any number of workers.
func (c Codec) ID() string {
	switch c {
	case Gzip:
		return fmt.Sprintf("tar-%d/gzip/klauspost-%s/level-%d/block-%d", tarVersion, compressVersion(), gzipLevel, gzipBlock)
	case Zstd:
		return fmt.Sprintf("tar-%d/zstd/klauspost-%s/level-3/window-%d", tarVersion, compressVersion(), zstdWindow)
	}
	return fmt.Sprintf("tar-%d/%s", tarVersion, c)
}

// compressModule and its version where the program doesn't know its modules
// (a test); go.mod says the same.
const (
	compressModule = "github.com/klauspost/compress"
	compressKnown  = "v1.20.3"
)

// compressVersion is the version of [compressModule] in this program.
var compressVersion = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return compressKnown
	}
	for _, m := range info.Deps {
		if m.Path != compressModule {
			continue
		}
		if m.Replace != nil {
			return m.Replace.Path + "@" + m.Replace.Version
		}
		return m.Version
	}
	return compressKnown
})

// MediaType gives the media type of a layer in codec c that is otherwise like
// one of media type like: docker's stays docker's, one that isn't to be
// distributed stays so. What is no layer of tar becomes OCI's plain layer.
func (c Codec) MediaType(like oci.MediaType) oci.MediaType {
	base := ocispec.MediaTypeImageLayer
	if _, ok := CodecOf(like); ok {
		base = like[:strings.LastIndex(like, ".tar")+len(".tar")]
	}
	switch {
	case c == None:
		return base
	case strings.HasPrefix(base, "application/vnd.docker."):
		return base + "." + string(c)
	}
	return base + "+" + string(c)
}

// A sum counts what passes on its way to w (nil: nowhere), and hashes it unless
// that can be spared.
type sum struct {
	w    io.Writer
	hash digest.Digester // nil if nobody asks for the digest
	n    int64

	failed bool
}

func newSum(w io.Writer, spared bool) *sum {
	s := &sum{w: w}
	if !spared {
		s.hash = digest.Canonical.Digester()
	}
	return s
}

// spare ends the hashing.
func (s *sum) spare() { s.hash = nil }

func (s *sum) Write(p []byte) (int, error) {
	n, err := len(p), error(nil)
	if s.w != nil {
		n, err = s.w.Write(p)
	}
	if s.hash != nil {
		_, _ = s.hash.Hash().Write(p[:n]) // a hash never fails
	}
	s.n += int64(n)
	s.failed = s.failed || err != nil
	return n, err
}

// digest gives "" if it was spared.
func (s *sum) digest() oci.Digest {
	if s.hash == nil {
		return ""
	}
	return s.hash.Digest()
}
