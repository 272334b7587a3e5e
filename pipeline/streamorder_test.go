package pipeline_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/bundle"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// piled is an image whose layers say something else in another order, and of
// which one stands twice.
func piled() imagetest.Image {
	add := imagetest.Files(map[string]string{"etc/name": "first", "etc/gone": "x"})
	drop := imagetest.Entries(imagetest.File("etc/.wh.gone", ""), imagetest.File("etc/name", "second"))
	return imagetest.New(imagetest.Linux, nil, add, drop, imagetest.Random(1, 600<<10), add, imagetest.Files(map[string]string{"etc/last": "last", "etc/.wh.name": ""}))
}

// rootfs reads the files of a bundle, without what is too large to compare.
func rootfs(t *testing.T, dir string) map[string]string {
	t.Helper()
	root := filepath.Join(dir, "rootfs")
	files := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		name, _ := filepath.Rel(root, p)
		files[name] = string(b[:min(10, len(b))])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func bundleAt(t *testing.T, dir string) oci.Target {
	t.Helper()
	u, err := backend.ParseURI("oci://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	target, err := bundle.Kind.Target(t.Context(), u, backend.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func TestStreamIntoAPlaceThatWantsOrder(t *testing.T) {
	img := piled()
	all := maps.Clone(hows)
	all["compressed"] = how{compressed: true, order: reversed}
	all["compressed, described"] = how{compressed: true, order: byName, described: true}
	for name, h := range all {
		for _, specs := range [][]string{nil, {"exclude:pattern=etc/last"}} {
			t.Run(name+strings.Join(specs, ""), func(t *testing.T) {
				s := streamOf(t, img, h)
				dir := t.TempDir() + "/b"
				way := s.into(t, bundleAt(t, dir), "localhost", h)
				r := copyImage(t, way, pipeline.Options{Filters: chain(t, specs...)})
				if r.Status != oci.StatusCopied || r.Layers != 5 || s.begun.Load() != 1 {
					t.Errorf("got %+v after %d streams, want five layers", r, s.begun.Load())
				}
				got := rootfs(t, dir)
				delete(got, "data/1")
				want := map[string]string{"etc/gone": "x", "etc/last": "last"}
				if specs != nil {
					delete(want, "etc/last")
				}
				if !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

// TestLayersInOrderAreNotSpooled: there is no folder for that.
func TestLayersInOrderAreNotSpooled(t *testing.T) {
	h := how{order: configFirst}
	s := streamOf(t, imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"a": "a"}), imagetest.Random(1, 600<<10), imagetest.Files(map[string]string{"b": "b"})), h)
	dir := t.TempDir() + "/b"
	way := s.into(t, bundleAt(t, dir), "localhost", h)
	noTemp(t)
	copyImage(t, way, pipeline.Options{})
	if got := rootfs(t, dir); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func TestOrderedStreamBreaksAndGoesOn(t *testing.T) {
	for name, h := range map[string]how{"in order": {order: configFirst}, "reversed": {order: reversed}} {
		t.Run(name, func(t *testing.T) {
			s := streamOf(t, piled(), h)
			s.read = func(stream, n int64) error {
				if stream == 1 && n > 300<<10 { // in the large layer
					return io.ErrUnexpectedEOF
				}
				return nil
			}
			dir := t.TempDir() + "/b"
			copyImage(t, s.into(t, bundleAt(t, dir), "localhost", h), pipeline.Options{})
			got := rootfs(t, dir)
			delete(got, "data/1")
			if want := map[string]string{"etc/gone": "x", "etc/last": "last"}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if s.begun.Load() != 2 {
				t.Errorf("%d streams, want 2", s.begun.Load())
			}
		})
	}
}

func TestOrderedStreamLacksALayer(t *testing.T) {
	for name, h := range map[string]how{"in order": {order: configFirst}, "legacy": {legacy: true}} {
		t.Run(name, func(t *testing.T) {
			s := streamOf(t, piled(), h)
			without(s, func(i int, _ part) bool { return i == 2 })
			dir := t.TempDir() + "/b"
			_, err := pipeline.Copy(t.Context(), s.into(t, bundleAt(t, dir), "localhost", h), pipeline.Options{})
			if !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("got %v, want that a layer isn't there", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the bundle is there: %v", err)
			}
		})
	}
}
