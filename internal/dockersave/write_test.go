package dockersave

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// put gives w the blob raw.
func put(ctx context.Context, w *Writer, layer int, raw []byte) error {
	d, err := w.PutBlob(ctx, oci.Blob{Desc: oci.Descriptor{Size: -1}, DiffID: digest.FromBytes(raw), Layer: layer, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}})
	if err == nil && (d.Digest != digest.FromBytes(raw) || d.Size != int64(len(raw))) {
		err = fmt.Errorf("put gave %s of %d bytes", d.Digest, d.Size)
	}
	return err
}

// putImages gives w both test images, in the order of the numbers.
func putImages(t *testing.T, w *Writer, order ...int) []Entry {
	t.Helper()
	steps := []func() error{
		func() error { return put(t.Context(), w, oci.NoLayer, twice.config.Bytes) },
		func() error { return put(t.Context(), w, 0, base) },
		func() error { return put(t.Context(), w, 1, app) },
		func() error { return put(t.Context(), w, oci.NoLayer, other.config.Bytes) },
		func() error { return put(t.Context(), w, oci.UnknownLayer, other.layers[1]) },
	}
	var wg sync.WaitGroup
	for _, n := range order {
		if err := steps[n](); err != nil {
			t.Fatal(err)
		}
	}
	if len(order) == 0 {
		for _, step := range steps {
			wg.Go(func() {
				if err := step(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	var list []Entry
	for _, e := range []struct {
		config oci.Digest
		tag    string
	}{{twice.config.Desc.Digest, "quay.io/a/twice:1"}, {other.config.Desc.Digest, "quay.io/a/other:1"}} {
		entry, err := w.Entry(e.config, []string{e.tag}, &Origin{Reference: e.tag, Digest: e.config})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry)
	}
	return list
}

func TestSameImagesGiveTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	var want []byte
	for n, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, nil} {
		for _, kind := range []string{"file", "buffer"} {
			w := NewWriter(dir)
			list := putImages(t, w, order...)
			if n == 1 {
				list[0], list[1] = list[1], list[0]
			}
			var got []byte
			if kind == "buffer" {
				var b bytes.Buffer
				if err := w.WriteTo(t.Context(), &b, list); err != nil {
					t.Fatal(err)
				}
				got = b.Bytes()
			} else {
				f, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(w.WriteTo(t.Context(), f, list), f.Close()); err != nil {
					t.Fatal(err)
				}
				if got, err = os.ReadFile(f.Name()); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("order %v into a %s: other bytes (%d, %d before)", order, kind, len(got), len(want))
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the spool's folder has %v, %v", entries, err)
	}
	a := readBytes(t, want)
	if got := names(a); got != "quay.io/a/other:1 quay.io/a/twice:1" {
		t.Errorf("names %q", got)
	}
	for n, img := range []image{other, twice} {
		i := a.Images[n]
		d, _, err := i.Resolve(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if i.Source == nil || i.Source.Digest != img.config.Desc.Digest {
			t.Errorf("%s: source %v", d.Digest, i.Source)
		}
		for l, id := range img.ids {
			if got, err := fetch(t.Context(), i, oci.Descriptor{Digest: id, Size: -1}); err != nil || !bytes.Equal(got, img.layers[l]) {
				t.Errorf("layer %d: %d bytes, %v", l, len(got), err)
			}
		}
	}
}

// TestLayoutOfTheArchive holds specs: headers, order, padding.
func TestLayoutOfTheArchive(t *testing.T) {
	w := NewWriter(t.TempDir())
	defer w.Close()
	var b bytes.Buffer
	if err := w.WriteTo(t.Context(), &b, putImages(t, w)); err != nil {
		t.Fatal(err)
	}
	if b.Len()%10240 != 0 {
		t.Errorf("%d bytes, no multiple of 10240", b.Len())
	}
	var got []string
	tr := tar.NewReader(&b)
	for h, err := tr.Next(); !errors.Is(err, io.EOF); h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
		if h.Format != tar.FormatUSTAR || h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 || h.Typeflag != tar.TypeReg {
			t.Errorf("header %+v", h)
		}
		if h.Name == ManifestFile {
			raw, err := io.ReadAll(tr)
			if err != nil || !strings.HasPrefix(string(raw), `[{"Config":"`+other.config.Desc.Digest.Encoded()+`.json","RepoTags":["quay.io/a/other:1"],"Layers":["`) {
				t.Errorf("%s, %v", raw, err)
			}
		}
	}
	want := []string{
		configName(other.config.Desc.Digest), layerName(other.ids[0]), layerName(other.ids[1]),
		configName(twice.config.Desc.Digest), layerName(twice.ids[1]), ManifestFile,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("members\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAdoptedImagesAreCopied(t *testing.T) {
	a := readBytes(t, podman("a:1"))
	w := NewWriter(t.TempDir())
	defer w.Close()
	if !w.Adopt(a.Images[0]) {
		t.Fatal("not adopted")
	}
	if !w.Has(oci.Descriptor{Digest: twice.ids[0]}) || w.Has(oci.Descriptor{Digest: twice.ids[0], Size: 1}) {
		t.Error("the size of a layer isn't compared")
	}
	e, err := w.Entry(twice.config.Desc.Digest, []string{"b:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "b.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := w.WriteTo(t.Context(), f, []Entry{e}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t.Context(), readBytes(t, raw).Images[0], oci.Descriptor{Digest: twice.ids[1], Size: int64(len(app))}); err != nil || !bytes.Equal(got, app) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := fetch(t.Context(), a.Images[0], oci.Descriptor{Digest: twice.ids[1], Size: int64(len(app))}); err != nil || !bytes.Equal(got, app) {
		t.Errorf("where it was adopted from: %d bytes, %v", len(got), err)
	}
	if w.Adopt(readBytes(t, modern(gzipped, "a:1")).Images[0]) {
		t.Error("compressed layers were adopted")
	}
}

func TestPutRefuses(t *testing.T) {
	w := NewWriter(t.TempDir())
	defer w.Close()
	if err := put(t.Context(), w, 0, gzipped(base)); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a compressed layer: %v", err)
	}
	calls := 0
	open := func(body string) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) {
			if calls++; calls == 1 {
				return io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("broken")))), nil
			}
			return io.NopCloser(strings.NewReader(body)), nil
		}
	}
	id := digest.FromString("right")
	if d, err := w.PutBlob(t.Context(), oci.Blob{Desc: oci.Descriptor{Size: -1}, DiffID: id, Open: open("right")}); err != nil || d.Size != 5 || calls != 2 {
		t.Errorf("after a broken read: %v, %v, %d calls", d, err, calls)
	}
	if _, err := w.PutBlob(t.Context(), oci.Blob{Desc: oci.Descriptor{Digest: digest.FromString("x"), Size: -1}, Open: open("wrong")}); !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := w.Entry(digest.FromString("none"), nil, nil); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("no config: %v", err)
	}
	if err := put(t.Context(), w, oci.NoLayer, other.config.Bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Entry(other.config.Desc.Digest, nil, nil); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "layer 0") {
		t.Errorf("no layers: %v", err)
	}
}

func TestWritingObeysContext(t *testing.T) {
	w := NewWriter(t.TempDir())
	defer w.Close()
	list := putImages(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.WriteTo(ctx, io.Discard, list); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := put(ctx, w, 0, plain("new", "new")); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
}
