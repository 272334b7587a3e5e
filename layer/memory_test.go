package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A streamed layer ends what makes it when it is closed.
type streamed struct {
	*io.PipeReader
	done chan struct{}
}

func (s streamed) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// stream is a gzip-ed layer of files of 1 MiB that nobody holds.
func stream(size int64) io.ReadCloser {
	r, w := io.Pipe()
	s := streamed{r, make(chan struct{})}
	go func() {
		defer close(s.done)
		body := text(9, 1<<20)
		z, err := layer.NewEncoder(layer.Gzip, w)
		if err != nil {
			w.CloseWithError(err)
			return
		}
		tw := tar.NewWriter(z)
		for i := range size / (1 << 20) {
			err = errors.Join(err, tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("some/folder/%d", i), Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1, 0)}))
			body[i%int64(len(body))]++
			_, err1 := tw.Write(body)
			if err = errors.Join(err, err1); err != nil {
				break
			}
		}
		w.CloseWithError(errors.Join(err, tw.Close(), z.Close()))
	}()
	return s
}

// TestMemory runs passes over large layers, several at once, in a child: its
// resident memory stays small, and its temporary folder empty.
func TestMemory(t *testing.T) {
	if spec := os.Getenv("LAYER_TEST_MEMORY"); spec != "" {
		t.Log(passes(t, spec))
		return
	}
	// The race detector takes several times the memory, and the time.
	child := filepath.Join(t.TempDir(), "child")
	if out, err := exec.CommandContext(t.Context(), need.Program(t, "go"), "test", "-c", "-o", child, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	blob := filepath.Join(t.TempDir(), "blob")
	src := stream(48 << 20)
	defer src.Close()
	f, err := os.Create(blob)
	if err == nil {
		_, err = io.Copy(f, src)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		codec layer.Codec
		limit int
	}{{layer.Gzip, 56 << 10}, {layer.Zstd, 56 << 10}} {
		tmp := t.TempDir()
		cmd := exec.CommandContext(t.Context(), child, "-test.run=^TestMemory$", "-test.v")
		cmd.Env = append(os.Environ(), "LAYER_TEST_MEMORY="+string(tt.codec), "LAYER_TEST_BLOB="+blob, "TMPDIR="+tmp)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, said, _ := strings.Cut(string(out), "VmHWM:")
		var kib int
		if _, err := fmt.Sscan(said, &kib); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		t.Logf("%s: peak of %d KiB", tt.codec, kib)
		if kib > tt.limit {
			t.Errorf("%s: peak of %d KiB resident, want at most %d", tt.codec, kib, tt.limit)
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("%s: %v in the temporary folder, %v", tt.codec, left, err)
		}
	}
}

// passes rewrites 4 layers at once, and says how much memory the process has had.
func passes(t *testing.T, codec string) string {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			src, err := os.Open(os.Getenv("LAYER_TEST_BLOB"))
			if err != nil {
				t.Error(err)
				return
			}
			defer src.Close()
			p := layer.NewPass(oci.Descriptor{}, []oci.EntryFilter{edit(func(h *tar.Header) { h.Uid = 1 })}, layer.PassOptions{Codec: layer.Codec(codec)})
			if _, err := p.Run(t.Context(), io.Discard, src); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	return "VmHWM:" + peak
}

// TestCancel: a pass ends with its context, wherever it is, and leaves nothing.
func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	why := errors.New("enough")
	for _, codec := range []layer.Codec{layer.Gzip, layer.Zstd} {
		ctx, cancel := context.WithCancelCause(t.Context())
		src := stream(16 << 20)
		seen := 0
		stop := filter{put: func(e *oci.Entry, next oci.Sink) error {
			if seen++; seen == 5 {
				cancel(why)
			}
			return next.Put(e)
		}}
		_, err := layer.NewPass(oci.Descriptor{}, []oci.EntryFilter{stop}, layer.PassOptions{Codec: codec}).Run(ctx, io.Discard, src)
		if !errors.Is(err, why) || seen > 6 {
			t.Errorf("%s: got %v after %d entries", codec, err, seen)
		}
		src.Close()
	}
	noMoreThan(t, before)
}

// TestADestinationThatFails: its error comes out, and nobody stays.
func TestADestinationThatFails(t *testing.T) {
	before := runtime.NumGoroutine()
	full := errors.New("disk full")
	for _, codec := range []layer.Codec{layer.Gzip, layer.Zstd, layer.None} {
		for _, room := range []int{0, 300_000} {
			src := stream(8 << 20)
			got, err := layer.NewPass(oci.Descriptor{}, nil, layer.PassOptions{Codec: codec}).Run(t.Context(), &bounded{room, full}, src)
			if !errors.Is(err, full) {
				t.Errorf("%s: got %+v, %v", codec, got, err)
			}
			src.Close()
		}
		// Small enough to be written by Close.
		if _, err := layer.NewPass(oci.Descriptor{}, nil, layer.PassOptions{Codec: codec}).Run(t.Context(), &bounded{0, full}, bytes.NewReader(pack(t, reg("a", "A")))); !errors.Is(err, full) {
			t.Errorf("%s, small: got %v", codec, err)
		}
	}
	noMoreThan(t, before)
}

// BenchmarkPass: 64 MiB of tar, by number of filters.
func BenchmarkPass(b *testing.B) {
	var blob bytes.Buffer
	if _, err := io.Copy(&blob, stream(64<<20)); err != nil {
		b.Fatal(err)
	}
	for _, codec := range []layer.Codec{layer.Gzip, layer.Zstd, layer.None} {
		for _, n := range []int{1, 3} {
			b.Run(fmt.Sprintf("%s/filters=%d", codec, n), func(b *testing.B) {
				filters := make([]oci.EntryFilter, n)
				for i := range filters {
					filters[i] = drop("what/there/is/not")
				}
				b.SetBytes(64 << 20)
				b.ReportAllocs()
				for b.Loop() {
					got, err := layer.NewPass(oci.Descriptor{}, filters, layer.PassOptions{Codec: codec}).Run(b.Context(), io.Discard, bytes.NewReader(blob.Bytes()))
					if err != nil || !got.Unchanged {
						b.Fatal(got, err)
					}
				}
			})
		}
	}
}
