package pipeline_test

import (
	"bytes"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// noTemp lets the test fail if anything is put into a temporary file: there is
// no folder for it.
func noTemp(t *testing.T) {
	t.Helper()
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
}

// twiceLayered is an image whose second layer stands twice, and is larger than
// what is held in memory.
var twiceLayered = sync.OnceValue(func() imagetest.Image {
	a, b, c := imagetest.Files(map[string]string{"etc/base": "base", "etc/gone": "x"}), imagetest.Random(1, 600<<10), imagetest.Random(2, 540<<10)
	return imagetest.New(imagetest.Linux, map[string]string{"a": "b"}, a, b, c, b)
})

// hows are the streams that one image may come as.
var hows = map[string]how{
	"in order":             {},
	"config first":         {order: configFirst},
	"config in the middle": {order: configMiddle},
	"reversed":             {order: reversed},
	"by name, described":   {order: byName, described: true},
	"legacy":               {legacy: true, order: byName},
	"legacy, described":    {legacy: true, order: reversed, described: true},
}

// newTarget opens a place of kind that holds nothing.
func newTarget(t *testing.T, kind string) (oci.Target, string) {
	t.Helper()
	if kind != "registry" {
		return openTarget(t, kind+"://"+t.TempDir()+"/x", backend.Env{}), "localhost"
	}
	far := newFar(t)
	return openTarget(t, "registry://"+far.host, far.env()), far.host
}

func TestStreamInAnyOrder(t *testing.T) {
	img := twiceLayered()
	for _, kind := range []string{"registry", "ocidir", "dir"} {
		t.Run(kind, func(t *testing.T) {
			var first oci.Digest
			for name, h := range hows {
				if kind != "ocidir" && !h.legacy && name != "reversed" {
					continue
				}
				t.Run(name, func(t *testing.T) {
					s := streamOf(t, img, h)
					target, host := newTarget(t, kind)
					way := s.into(t, target, host, h)
					noTemp(t)
					r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
					if r.Status != oci.StatusCopied || !r.Verified || r.Layers != 4 || r.BlobsMoved != 4 {
						t.Errorf("got %+v, want four layers, of which one twice, and a config", r)
					}
					if s.begun.Load() != 1 {
						t.Errorf("%d streams, want 1", s.begun.Load())
					}
					if kind == "dir" {
						checkDir(t, way, img)
						return
					}
					there := readImage(t, way.Dest, "")
					if there.config != string(s.config) {
						t.Error("the config changed")
					}
					if first == "" {
						first = there.Digest
					}
					if there.Digest != first || r.Written != first || r.Digest != "" {
						t.Errorf("manifest %s (%+v), want that of the other orders %s", there.Digest, r, first)
					}
					if len(there.files) != 4 || there.files[0]["etc/base"] != "base" {
						t.Errorf("got %v", there.files)
					}
				})
			}
		})
	}
}

// checkDir reads the layers of img where they were written as plain tar.
func checkDir(t *testing.T, way pipeline.Image, img imagetest.Image) {
	t.Helper()
	for _, b := range img.Blobs {
		if b[0] == '{' {
			continue // the config
		}
		plain := plainOf(t, b)
		got, err := read(t.Context(), way.Dest, oci.Descriptor{Digest: digest.FromBytes(plain), Size: int64(len(plain))})
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes, %v, want the plain tar", len(got), err)
		}
	}
}
