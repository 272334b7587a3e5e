package pipeline_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// without leaves out the parts that drop says.
func without(s *stream, drop func(i int, p part) bool) {
	var kept []part
	for i, p := range s.parts {
		if !drop(i, p) {
			kept = append(kept, p)
		}
	}
	s.parts = kept
	s.write()
}

func isLayer(p part) bool { return p.blob.Layer != oci.NoLayer }

func TestStreamsThatAreNotTheImage(t *testing.T) {
	other := imagetest.Files(map[string]string{"other": "layer"})
	otherConfig := imagetest.New(imagetest.Linux, map[string]string{"other": "config"})
	damage := func(s *stream) {
		for i, p := range s.parts {
			if isLayer(p) {
				s.parts[i].body = slices.Clone(p.body)
				s.parts[i].body[min(600, len(p.body)/2)] ^= 1
			}
		}
		s.write()
	}
	tests := []struct {
		name string
		how  how
		edit func(s *stream)
		kind error
		text string
	}{
		{"a layer is missing", how{}, func(s *stream) { without(s, func(i int, _ part) bool { return i == 0 }) }, oci.ErrNotFound, "layer 0: not found: the source gave none with diffID sha256:"},
		{"a layer is missing, and nobody knows digests", how{legacy: true}, func(s *stream) { without(s, func(i int, _ part) bool { return i == 1 }) }, oci.ErrNotFound, "layer 1: "},
		{"a layer too many", how{}, func(s *stream) {
			p := part{"other", oci.Blob{Desc: oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Size: -1}, Layer: oci.UnknownLayer}, plainOf(t, other.Bytes)}
			s.parts = append(s.parts, p)
			s.write()
		}, oci.ErrInvalid, "which the config doesn't list"},
		{"a layer is damaged", how{}, damage, oci.ErrDigestMismatch, ""},
		{"a layer is damaged, and nobody knows digests", how{legacy: true}, damage, oci.ErrInvalid, "which the config doesn't list"},
		{"a compressed layer is damaged", how{compressed: true}, damage, oci.ErrDigestMismatch, ""},
		{"a layer lies elsewhere than it says", how{}, func(s *stream) { s.parts[0].blob.Layer = 2 }, oci.ErrInvalid, "layer 2"},
		{"there is no config", how{}, func(s *stream) { without(s, func(_ int, p part) bool { return !isLayer(p) }) }, oci.ErrNotFound, "no config"},
		{"there are two configs", how{}, func(s *stream) {
			raw := otherConfig.Blobs[imageConfig(t, otherConfig)]
			s.parts = append(s.parts, part{"second", oci.Blob{Desc: oci.Descriptor{Size: -1}, Layer: oci.NoLayer}, raw})
			s.write()
		}, oci.ErrInvalid, "two configs"},
		{"the config is too large", how{}, func(s *stream) {
			for i, p := range s.parts {
				if !isLayer(p) {
					s.parts[i].body = append(slices.Clone(p.body), make([]byte, 5<<20)...)
					s.parts[i].blob.Desc = oci.Descriptor{Size: -1}
				}
			}
			s.write()
		}, oci.ErrTooLarge, "read config"},
		{"the config is none", how{}, func(s *stream) {
			for i, p := range s.parts {
				if !isLayer(p) {
					s.parts[i].body, s.parts[i].blob.Desc = []byte("[]"), oci.Descriptor{Size: 2}
				}
			}
			s.write()
		}, oci.ErrInvalid, "read config"},
		{"a layer is too short", how{legacy: true}, func(s *stream) { s.parts[0].blob.Desc.Size++ }, oci.ErrInvalid, ""},
	}
	for _, tt := range tests {
		for _, dest := range []string{"ocidir", "dir"} {
			t.Run(tt.name+"/"+dest, func(t *testing.T) {
				s := streamOf(t, twiceLayered(), tt.how)
				tt.edit(s)
				target, host := newTarget(t, dest)
				way := s.into(t, target, host, tt.how)
				r, err := pipeline.Copy(t.Context(), way, pipeline.Options{})
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) || r.Status != oci.StatusFailed {
					t.Fatalf("got %v, want %v: %q", err, tt.kind, tt.text)
				}
				if n := s.begun.Load(); n != 1 {
					t.Errorf("%d streams, want 1: it will not get better", n)
				}
				if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("the image is visible: %v", err)
				}
			})
		}
	}
}

func imageConfig(t *testing.T, img imagetest.Image) oci.Digest {
	t.Helper()
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return m.Config.Digest
}

func TestStreamBreaksAndGoesOn(t *testing.T) {
	broken := errors.New("the connection is gone")
	for kind, h := range map[string]how{"raw": {}, "legacy": {legacy: true}, "compressed": {compressed: true}} {
		for _, dest := range []string{"ocidir", "registry"} {
			t.Run(kind+"/"+dest, func(t *testing.T) {
				s := streamOf(t, twiceLayered(), h)
				s.read = func(stream, n int64) error {
					if stream == 1 && n > 800<<10 { // in the third layer
						return broken
					}
					return nil
				}
				target, host := newTarget(t, dest)
				way := s.into(t, target, host, h)
				noTemp(t)
				r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
				if r.Status != oci.StatusCopied || r.BlobsMoved != 4 || r.BlobsPresent != 0 {
					t.Errorf("got %+v, want each blob moved once", r)
				}
				if s.begun.Load() != 2 || s.open.Load() != 0 {
					t.Errorf("%d streams, %d open, want 2", s.begun.Load(), s.open.Load())
				}
			})
		}
	}
	t.Run("always", func(t *testing.T) {
		s := streamOf(t, twiceLayered(), how{})
		s.read = func(_, n int64) error {
			if n > 800<<10 {
				return broken
			}
			return nil
		}
		target, host := newTarget(t, "ocidir")
		_, err := pipeline.Copy(t.Context(), s.into(t, target, host, how{}), pipeline.Options{})
		if !errors.Is(err, broken) || s.begun.Load() != 3 {
			t.Errorf("got %v after %d streams, want that it is broken after 3", err, s.begun.Load())
		}
	})
}

// failsPatches is a registry that fails in the middle of the first n layers that
// it is sent in pieces.
func failsPatches(t *testing.T, n int) *far {
	far := newFar(t)
	var mu sync.Mutex
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPatch || n == 0 {
			return false
		}
		n--
		_, _ = io.ReadFull(r.Body, make([]byte, 100<<10))
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	return far
}

// TestDestinationWantsALayerAgain: it gets it from the next stream.
func TestDestinationWantsALayerAgain(t *testing.T) {
	far := failsPatches(t, 1)
	h := how{order: byName, legacy: true}
	s := streamOf(t, twiceLayered(), h)
	way := s.into(t, openTarget(t, "registry://"+far.host, far.env()), far.host, h)
	noTemp(t)
	r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull, Filters: chain(t, "search:pattern=etc/*")})
	if r.BlobsMoved != 4 || s.begun.Load() != 2 {
		t.Errorf("got %+v after %d streams, want all of it after 2", r, s.begun.Load())
	}
}

func TestDestinationFails(t *testing.T) {
	t.Parallel() // it takes pauses
	far := failsPatches(t, -1)
	s := streamOf(t, imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 600<<10)), how{})
	way := s.into(t, openTarget(t, "registry://"+far.host, far.env()), far.host, how{})
	_, err := pipeline.Copy(t.Context(), way, pipeline.Options{})
	if err == nil || s.begun.Load() != 3 || !strings.Contains(err.Error(), "502") {
		t.Errorf("got %v after %d streams, want what the registry said after 3", err, s.begun.Load())
	}
}

func TestStreamIsCancelled(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, specs := range [][]string{nil, {"exclude:pattern=tmp/**"}, {"search:pattern=etc/*"}} {
		for _, dest := range []string{"ocidir", "dir"} {
			ctx, cancel := context.WithCancel(t.Context())
			s := streamOf(t, twiceLayered(), how{})
			s.read = func(_, n int64) error {
				if n > 300<<10 {
					cancel()
				}
				return nil
			}
			target, host := newTarget(t, dest)
			way := s.into(t, target, host, how{})
			r, err := pipeline.Copy(ctx, way, pipeline.Options{Filters: chain(t, specs...)})
			if !errors.Is(err, context.Canceled) || r.Status != oci.StatusInterrupted || s.begun.Load() != 1 || s.open.Load() != 0 {
				t.Errorf("got %v, %+v, %d streams, want that it was interrupted", err, r, s.begun.Load())
			}
			if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("the image is visible: %v", err)
			}
		}
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestStreamOfAnotherPlatform(t *testing.T) {
	for _, h := range []how{{order: configFirst}, {described: true}} {
		s := streamOf(t, twiceLayered(), h)
		target := openTarget(t, "ocidir://"+t.TempDir()+"/x", backend.Env{})
		_, err := pipeline.Copy(t.Context(), s.into(t, target, "localhost", h), pipeline.Options{Platforms: []oci.Platform{arm64}})
		if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "platform linux/arm64") {
			t.Errorf("got %v, want that the image is for another platform", err)
		}
		if h.described && s.begun.Load() > 0 {
			t.Error("it was streamed")
		}
		r := copyImage(t, s.into(t, target, "localhost", h), pipeline.Options{Platforms: []oci.Platform{arm64, imagetest.Linux}})
		if r.Status != oci.StatusCopied {
			t.Errorf("got %+v", r)
		}
	}
}
