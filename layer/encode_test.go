package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	stdgzip "compress/gzip"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// text is n bytes that compress about as a layer does.
func text(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	words := make([][]byte, 500)
	for i := range words {
		words[i] = []byte(fmt.Sprintf("%x/%d ", rng.Uint64(), i))
	}
	b := make([]byte, 0, n+20)
	for len(b) < n {
		b = append(b, words[rng.IntN(len(words))]...)
	}
	return b[:n]
}

// inPieces writes b in pieces of odd sizes.
func inPieces(t testing.TB, w io.WriteCloser, b []byte, most int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(most), 3))
	for len(b) > 0 {
		k := min(len(b), 1+rng.IntN(most))
		if _, err := w.Write(b[:k]); err != nil {
			t.Fatal(err)
		}
		b = b[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGzipIsTheSame holds gzip to pgzip's bytes, whatever the number of workers
// and the size of writes, and has the standard library read them.
func TestGzipIsTheSame(t *testing.T) {
	const block = 1 << 20
	for _, n := range []int{0, 1, 16 << 10, block - 1, block, block + 1, block + 100, 3*block + 12345} {
		in := text(uint64(n), n)
		var want bytes.Buffer
		p, err := pgzip.NewWriterLevel(&want, 6)
		if err != nil {
			t.Fatal(err)
		}
		p.ModTime = time.Unix(0, 0)
		inPieces(t, p, in, block)
		for _, workers := range []int{1, 2, 8} {
			for _, most := range []int{block + 5, 4000} {
				var got bytes.Buffer
				inPieces(t, layer.NewGzip(&got, workers), in, most)
				if !bytes.Equal(got.Bytes(), want.Bytes()) {
					t.Errorf("%d bytes, %d workers, writes up to %d: %d bytes that aren't pgzip's %d", n, workers, most, got.Len(), want.Len())
				}
			}
		}
		r, err := stdgzip.NewReader(&want)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(r); err != nil || !bytes.Equal(out, in) || r.Name != "" || !r.ModTime.IsZero() {
			t.Errorf("%d bytes: read back %d, %v, %+v", n, len(out), err, r.Header)
		}
	}
}

// TestEncodersAreReused: the same bytes from encoders that have served before,
// some of them given up, many at once.
func TestEncodersAreReused(t *testing.T) {
	for _, codec := range []layer.Codec{layer.Gzip, layer.Zstd, layer.None} {
		in := text(1, 2<<20+777)
		var want bytes.Buffer
		if err := layer.Encode(codec, &want, bytes.NewReader(in), false); err != nil {
			t.Fatal(err)
		}
		if _, out, err := read(bytes.NewReader(want.Bytes()), layer.Options{}); err != nil || !bytes.Equal(out, in) {
			t.Fatalf("%s: read back %d bytes, %v", codec, len(out), err)
		}
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for range 2 {
					if n%2 == 0 {
						_ = layer.Encode(codec, io.Discard, bytes.NewReader(text(uint64(n), 2<<20)), true)
					}
					var got bytes.Buffer
					if err := layer.Encode(codec, &got, oddReader{bytes.NewReader(in), 1000 + n}, false); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
						t.Errorf("%s: %d bytes, want %d, %v", codec, got.Len(), want.Len(), err)
					}
				}
			})
		}
		wg.Wait()
	}
}

type oddReader struct {
	r io.Reader
	n int
}

func (o oddReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.n)]) }

// TestZstdWindow: a layer at work needs little memory to be read, too.
func TestZstdWindow(t *testing.T) {
	var out bytes.Buffer
	if err := layer.Encode(layer.Zstd, &out, bytes.NewReader(text(1, 5<<20)), false); err != nil {
		t.Fatal(err)
	}
	var h zstd.Header
	if err := h.Decode(out.Bytes()); err != nil || h.WindowSize != 2<<20 || !h.HasCheckSum {
		t.Errorf("got %+v, %v", h, err)
	}
}

// TestAWriterThatFails: its error comes out, and no goroutine stays.
func TestAWriterThatFails(t *testing.T) {
	full := errors.New("disk full")
	before := runtime.NumGoroutine()
	for _, codec := range []layer.Codec{layer.Gzip, layer.Zstd, layer.None} {
		for _, room := range []int{0, 5, 100_000} {
			err := layer.Encode(codec, &bounded{room, full}, bytes.NewReader(text(1, 4<<20)), false)
			if !errors.Is(err, full) {
				t.Errorf("%s with room for %d: got %v", codec, room, err)
			}
		}
	}
	noMoreThan(t, before)
}

// noMoreThan waits for goroutines that are on their way out.
func noMoreThan(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if runtime.NumGoroutine() <= n {
			return
		}
	}
	b := make([]byte, 1<<16)
	t.Errorf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), n, b[:runtime.Stack(b, true)])
}

type bounded struct {
	room int
	err  error
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, b.err
	}
	return len(p), nil
}

// TestASlowWriterHoldsNobodyUp: one that doesn't read at all takes every block
// that there is, and another still gets on.
func TestASlowWriterHoldsNobodyUp(t *testing.T) {
	r, w := io.Pipe()
	stuck := make(chan error, 1)
	go func() { stuck <- layer.Encode(layer.Gzip, w, bytes.NewReader(text(1, 12<<20)), false) }()
	if _, err := r.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	for range 3 {
		if err := layer.Encode(layer.Gzip, io.Discard, bytes.NewReader(text(2, 5<<20)), false); err != nil {
			t.Fatal(err)
		}
	}
	gone := errors.New("nobody reads")
	r.CloseWithError(gone)
	if err := <-stuck; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestCodecID(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range []layer.Codec{layer.Gzip, layer.Zstd, layer.None} {
		ids[c.ID()] = true
	}
	if len(ids) != 3 || !strings.Contains(layer.Gzip.ID(), "level-6/block-1048576") {
		t.Errorf("got %v", ids)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), layer.CompressKnown+"\n") {
		t.Errorf("go.mod has another version than %s: other bytes may come out", layer.CompressKnown)
	}
	if err := layer.Encode("lzma", io.Discard, nil, false); !errors.Is(err, oci.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestMediaType(t *testing.T) {
	for _, tt := range []struct {
		codec layer.Codec
		like  oci.MediaType
		want  oci.MediaType
	}{
		{layer.Gzip, "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{layer.Zstd, "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"},
		{layer.None, "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar"},
		{layer.Gzip, "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{layer.Gzip, "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
		{layer.Gzip, "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{layer.Zstd, "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd"},
		{layer.None, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar"},
		{layer.Zstd, "application/octet-stream", "application/vnd.oci.image.layer.v1.tar+zstd"},
		{layer.None, "", "application/vnd.oci.image.layer.v1.tar"},
	} {
		if got := tt.codec.MediaType(tt.like); got != tt.want {
			t.Errorf("%s like %q: got %q, want %q", tt.codec, tt.like, got, tt.want)
		}
	}
}
