package layer

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Gzip is written as pgzip writes it: blocks of a fixed size, each compressed
// on its own with the end of the one before as its dictionary, so the bytes are
// the same whoever compresses them. It isn't pgzip itself because that takes
// its memory for each layer and leaves the rest to the garbage collector; here
// all layers of the process share the compressors and the blocks.
const (
	gzipLevel = 6
	gzipBlock = 1 << 20
	gzipDict  = 16 << 10
)

// A block is a piece of one layer's tar on its way to gzip. It holds in until it
// is compressed and out from then on, so that little waits twice.
type block struct {
	in    []byte // after the end of the block before, its dictionary
	dict  int    // bytes of that
	out   []byte
	last  bool
	slot  chan struct{} // where its right to be in flight goes back to
	ready chan struct{} // closed when out is made
}

func (b *block) Write(p []byte) (int, error) {
	b.out = append(b.out, p...)
	return len(p), nil
}

// A blockPool is what the gzip writers of a process share.
type blockPool struct {
	flates chan *flate.Writer // one for each core; nil is one not yet made
	extra  chan struct{}      // rights for blocks in flight, beyond the one that each writer has
	// buffers hold what goes in and what comes out: a dictionary and a block are
	// as long as a block that doesn't compress.
	buffers buffers
}

// blocks is the pool of this process.
var blocks = newBlockPool(runtime.GOMAXPROCS(0))

func newBlockPool(workers int) *blockPool {
	p := &blockPool{
		flates: make(chan *flate.Writer, workers), extra: make(chan struct{}, workers),
		// With a writer for each core: the block that it fills, its own and an extra
		// one in flight, and what one being compressed comes to. To keep fewer would
		// leave the others to the garbage collector, which lets them pile up.
		buffers: buffers{size: gzipDict + gzipBlock, keep: 4 * max(2, workers)},
	}
	for range workers {
		p.flates <- nil
		p.extra <- struct{}{}
	}
	return p
}

// compress makes b's out, and lets go of its in.
func (p *blockPool) compress(b *block) {
	f := <-p.flates
	b.out = p.buffers.get()
	if f == nil {
		f, _ = flate.NewWriterDict(b, gzipLevel, nil) // fails for a level that there isn't
	}
	var dict []byte
	if b.dict > 0 {
		dict = b.in[:b.dict]
	}
	// None of these can fail, since b's Write can't.
	f.ResetDict(b, dict)
	_, _ = f.Write(b.in[b.dict:])
	_ = f.Flush()
	if b.last {
		_ = f.Close()
	}
	p.flates <- f
	p.buffers.put(b.in)
	b.in = nil
	close(b.ready)
}

// buffers are buffers of one size that are used again. Few wait for that.
type buffers struct {
	size, keep int
	mu         sync.Mutex
	free       [][]byte
}

func (s *buffers) get() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, 0, s.size)
}

func (s *buffers) put(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < s.keep {
		s.free = append(s.free, b[:0])
	}
}

// A gzipWriter is an encoder that compresses several blocks at once.
type gzipWriter struct {
	w    io.Writer
	pool *blockPool
	fill []byte // with dict bytes of the block before in front
	dict int
	own  chan struct{} // this writer's own right to have a block in flight: it always gets on
	crc  uint32
	n    uint32

	// From the second block on, a goroutine writes them in their order.
	queue  chan *block
	done   chan struct{} // closed when the goroutine has ended
	stop   chan struct{} // closed when nothing is to be written any more
	once   sync.Once
	waited bool
	err    error // why, read after stop
}

func newGzipWriter(w io.Writer, pool *blockPool) *gzipWriter {
	z := &gzipWriter{w: w, pool: pool, fill: pool.buffers.get(), own: make(chan struct{}, 1), stop: make(chan struct{})}
	z.own <- struct{}{}
	return z
}

func (z *gzipWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		k := min(len(rest), gzipBlock-(len(z.fill)-z.dict))
		z.fill = append(z.fill, rest[:k]...)
		z.crc = crc32.Update(z.crc, crc32.IEEETable, rest[:k])
		z.n += uint32(k) //nolint:gosec // the format keeps the size modulo 2^32
		rest = rest[k:]
		if len(z.fill)-z.dict == gzipBlock {
			if err := z.send(); err != nil {
				return len(p) - len(rest), err
			}
		}
	}
	return len(p), nil
}

// send gives the full block away and begins the next.
func (z *gzipWriter) send() error {
	if z.queue == nil {
		z.queue = make(chan *block, 1+cap(z.pool.extra)) // all that may be in flight: a send never waits
		z.done = make(chan struct{})
		go z.writeBlocks()
	}
	b := z.block()
	select {
	case <-z.stop:
		return z.err
	case <-z.own:
		b.slot = z.own
	default:
		select {
		case <-z.stop:
			return z.err
		case <-z.own:
			b.slot = z.own
		case <-z.pool.extra:
			b.slot = z.pool.extra
		}
	}
	z.dict = gzipDict
	z.fill = append(z.pool.buffers.get(), b.in[len(b.in)-gzipDict:]...)
	z.queue <- b
	go z.pool.compress(b) // writeBlocks waits for it
	return nil
}

// block is what was written since the last one.
func (z *gzipWriter) block() *block {
	return &block{in: z.fill, dict: z.dict, ready: make(chan struct{})}
}

func (z *gzipWriter) writeBlocks() {
	defer close(z.done)
	head := true
	for b := range z.queue {
		<-b.ready
		select {
		case <-z.stop:
		default:
			z.writeBlock(b, head)
			head = false
		}
		z.pool.buffers.put(b.out)
		b.slot <- struct{}{}
	}
}

func (z *gzipWriter) writeBlock(b *block, head bool) {
	var err error
	if head {
		// No name, no time, no operating system.
		_, err = z.w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	}
	if err == nil {
		_, err = z.w.Write(b.out)
	}
	if err != nil {
		z.fail(err)
	}
}

func (z *gzipWriter) fail(err error) {
	z.once.Do(func() {
		z.err = err
		close(z.stop)
	})
}

// Close compresses what is left and ends the file.
func (z *gzipWriter) Close() error {
	z.wait()
	select {
	case <-z.stop:
		z.abort()
		return z.err
	default:
	}
	b := z.block()
	z.fill = nil
	b.last = true
	z.pool.compress(b)
	<-b.ready
	b.out = binary.LittleEndian.AppendUint32(b.out, z.crc)
	b.out = binary.LittleEndian.AppendUint32(b.out, z.n)
	z.writeBlock(b, z.queue == nil)
	z.pool.buffers.put(b.out)
	return z.err
}

// wait ends the goroutine that writes, when it has written all it has.
func (z *gzipWriter) wait() {
	if z.queue != nil && !z.waited {
		z.waited = true
		close(z.queue)
		<-z.done
	}
}

func (z *gzipWriter) abort() {
	if z.fill == nil {
		return
	}
	z.fail(io.ErrClosedPipe)
	z.wait()
	z.pool.buffers.put(z.fill)
	z.fill = nil
}
