package suite_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A snapshot is what the disk has at a path, and beside it.
type snapshot map[string]string

func (c *call) snapshot(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{}
	if c.path == "" {
		return s
	}
	base := filepath.Dir(filepath.Dir(c.path))
	err := filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if c.tree != nil && path == filepath.Join(c.path, "rootfs") {
			return fs.SkipDir // perhaps a mount
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(base, path) // it is below
		s[rel] = fmt.Sprintf("%v inode %d", info.Mode(), st.Ino)
		if !info.IsDir() {
			s[rel] += fmt.Sprintf(" size %d mtime %v", info.Size(), info.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s snapshot) diff(u snapshot) (diff []string) {
	for path, is := range s {
		if u[path] != is {
			diff = append(diff, fmt.Sprintf("%s was %q and is %q", path, is, u[path]))
		}
	}
	for path, is := range u {
		if s[path] == "" {
			diff = append(diff, fmt.Sprintf("%s is new: %q", path, is))
		}
	}
	slices.Sort(diff)
	return diff
}

// noTrace opens the place and an image in it, and asks what is there.
func noTrace(t *testing.T, c *call) {
	_, items := set(sample(6))
	before := c.snapshot(t)
	target := c.target(t)
	dest, err := target.Image(t.Context(), c.called(t, items[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Head: %v", err)
	}
	if _, _, err := dest.Resolve(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) && (c.keeps || !errors.Is(err, oci.ErrUnsupported)) {
		t.Errorf("Resolve: %v", err)
	}
	if has, err := dest.Has(t.Context(), items[0].Desc); has || err != nil {
		t.Errorf("Has: %v, %v", has, err)
	}
	if err := errors.Join(dest.Close(), dest.Close(), target.Close()); err != nil {
		t.Error(err)
	}
	for _, d := range before.diff(c.snapshot(t)) {
		t.Error(d)
	}
}

// called gives the name of item in the place.
func (c *call) called(t *testing.T, item oci.Item) oci.Ref {
	t.Helper()
	if c.place.name == nil {
		return item.Ref
	}
	ref, err := c.place.name(item)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// A watch sees what a step leaves in the process and in the folder for
// temporary files.
type watch struct {
	temp string
}

func newWatch(t *testing.T) *watch {
	t.Helper()
	w := &watch{temp: t.TempDir()}
	t.Setenv("TMPDIR", w.temp)
	return w
}

// nothing is that nothing is left.
func (w *watch) nothing(t *testing.T, c *call) {
	t.Helper()
	names, err := os.ReadDir(w.temp)
	if err != nil || len(names) > 0 {
		t.Errorf("temporary files are left: %v, %v", names, err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && (strings.HasSuffix(to, "(deleted)") || c.path != "" && strings.HasPrefix(to, filepath.Dir(c.path))) {
			t.Errorf("%s is open still", to)
		}
	}
	var ours []string
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if ours = goroutines(); len(ours) == 0 {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", strings.Join(ours, "\n\n"))
}

// goroutines gives the stacks that the packages under test are in.
func goroutines() (ours []string) {
	buf := make([]byte, 4<<20)
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.Contains(stack, []byte("quaymaster/quaymaster/")) && !bytes.Contains(stack, []byte("internal/suite_test.")) && !bytes.Contains(stack, []byte("internal/daemontest.")) {
			ours = append(ours, string(stack))
		}
	}
	return ours
}

// A stall gives half of one blob, and the rest never.
type stall struct {
	blob    oci.Digest
	reached chan struct{}
	once    sync.Once
}

func (s *stall) wrap(ctx context.Context, d oci.Descriptor, rc io.ReadCloser) io.ReadCloser {
	if d.Digest != s.blob {
		return rc
	}
	return &stalled{s, ctx, io.LimitReader(rc, d.Size/2), rc}
}

type stalled struct {
	s   *stall
	ctx context.Context //nolint:containedctx // it is a reader's
	r   io.Reader
	io.Closer
}

func (s *stalled) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	s.s.once.Do(func() { close(s.s.reached) })
	<-s.ctx.Done()
	return 0, context.Cause(s.ctx)
}

// cancelled ends a run in the middle of a layer, of each in a place of its own.
func cancelled(t *testing.T, c *call) {
	for i := range 3 {
		t.Run(fmt.Sprint("layer ", i), func(t *testing.T) { cancelledAt(t, c.again(t), i) })
	}
}

func cancelledAt(t *testing.T, c *call, i int) {
	w := newWatch(t)
	images, items := set(sample(7))
	s := &stall{blob: layersOf(t, images, items[0])[i].Digest, reached: make(chan struct{})}
	images.Wrap = s.wrap
	gone := errors.New("gone")
	before := c.snapshot(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-s.reached:
			cancel(gone)
		case <-ctx.Done():
		}
	}()
	started := time.Now()
	report, err := c.copy(ctx, t, images)
	if !errors.Is(err, gone) || report.Images[0].Status != oci.StatusInterrupted {
		t.Errorf("the copy ended with %v: %+v", err, report.Images)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %v to end", took)
	}
	c.nobody(t, items[0])
	c.onlyContent(t, before)
	w.nothing(t, c)
	images.Wrap = nil
	c.must(t, images) // it goes on from there
	c.compare(t, images, items[0])
}

// layersOf gives the layers of item, an image.
func layersOf(t *testing.T, images *imagetest.Kept, item oci.Item) []oci.Descriptor {
	t.Helper()
	d, raw, err := images.Resolve(t.Context(), item.Ref.Tag)
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers
}

// nobody is that there is no image of that name.
func (c *call) nobody(t *testing.T, item oci.Item) {
	t.Helper()
	target := c.target(t)
	dest, err := target.Image(t.Context(), c.called(t, item))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("the destination says %v", err)
	}
	if err := errors.Join(dest.Close(), target.Close()); err != nil {
		t.Error(err)
	}
	if c.from != nil {
		if got, err := c.read(t.Context(), t, item); err == nil {
			t.Errorf("it can be read: %s", got)
		}
	}
}

// onlyContent is that what is new is whole content, under the name of its digest,
// which the next run takes up, or the frame of a layout without images.
func (c *call) onlyContent(t *testing.T, before snapshot) {
	t.Helper()
	base := filepath.Dir(filepath.Dir(c.path))
	for path, is := range c.snapshot(t) {
		if before[path] != "" || strings.HasPrefix(is, "d") && !strings.Contains(path, "/.") {
			continue
		}
		if c.scheme == "mounts" { // what is in a layer that is whole
			hex, _, _ := strings.Cut(strings.TrimPrefix(path, "below/place/"), "/")
			if _, err := os.Stat(filepath.Join(c.path, hex, "layer.json")); err == nil && len(hex) == 64 {
				continue
			}
		}
		raw, err := os.ReadFile(filepath.Join(base, path))
		frame := c.scheme == "ocidir" && (filepath.Base(path) == "oci-layout" || filepath.Base(path) == "index.json")
		if err != nil || !strings.Contains(path, digest.FromBytes(raw).Encoded()) && !frame {
			t.Errorf("%s is left, %q, %v", path, is, err)
		}
	}
}

// uncommitted puts all of an image, and goes away.
func uncommitted(t *testing.T, c *call) {
	w := newWatch(t)
	img := sample(8)
	_, items := set(img)
	before := c.snapshot(t)
	target := c.target(t)
	dest, err := target.Image(t.Context(), c.called(t, items[0]))
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	put := func(layer int, d oci.Descriptor, diffID oci.Digest, raw []byte) oci.Descriptor {
		b := oci.Blob{Desc: d, DiffID: diffID, Layer: layer}
		b.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
		d, err := dest.PutBlob(t.Context(), b)
		if err != nil {
			t.Errorf("put layer %d: %v", layer, err)
		}
		return d
	}
	for i, d := range m.Layers {
		if raw := img.Blobs[d.Digest]; c.traits.Raw {
			l := unpacked(t, raw)
			put(i, l.Desc, l.DiffID, l.Bytes)
		} else {
			put(i, d, "", raw)
		}
	}
	put(oci.NoLayer, *m.Config, "", img.Blobs[m.Config.Digest])
	if err := errors.Join(dest.Close(), target.Close()); err != nil {
		t.Error(err)
	}
	c.nobody(t, items[0])
	c.onlyContent(t, before)
	w.nothing(t, c)
}

// unpacked gives a gzip-ed layer as plain tar.
func unpacked(t *testing.T, raw []byte) imagetest.Layer {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Blob("application/vnd.oci.image.layer.v1.tar", plain)
}
