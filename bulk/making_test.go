package bulk_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A pass that fails for the image that asked first is begun again for one that
// waits.
func TestWaitingImageTakesThePassOver(t *testing.T) {
	src, near := organisation(t, 6), newFar(t)
	var failed atomic.Bool
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return isBlob(r, bases[0].Desc.Digest) && failed.CompareAndSwap(false, true) && notFound(w)
	})
	opt := filtering(t, near, "", "normalize-timestamps")
	opt.Images = 6
	r, err := bulk.Copy(t.Context(), src, near.target(t), opt)
	if !errors.Is(err, oci.ErrNotFound) || r.Totals.Failed != 1 || r.Totals.Copied != 5 {
		t.Fatalf("got %v and %+v, want one failure of six", err, r.Totals)
	}
	if got := blobReads(src.log())[string(bases[0].Desc.Digest)]; got != 2 {
		t.Errorf("the base was asked for %d times, %v; want the failure and one more", got, r.Transfers)
	}
	// The bases and what each image has of its own; of the one that failed that
	// may have been made before.
	all := int64(len(bases) + 6)
	if got := r.Transfers["layers_filtered"]; got != all && got != all-1 {
		t.Errorf("%d layers filtered, want each of %d once", got, all)
	}
}

// A layer whose bytes are wrong doesn't go through the filters for every image
// there is.
func TestBrokenLayerIsGivenUp(t *testing.T) {
	src := organisation(t, 10)
	wrong := make([]byte, bases[0].Desc.Size)
	var reads atomic.Int64
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, bases[0].Desc.Digest) {
			return false
		}
		reads.Add(1)
		_, _ = w.Write(wrong)
		return true
	})
	opt := filtering(t, nil, "", "normalize-timestamps")
	opt.Images = 1
	r, err := bulk.Copy(t.Context(), src, layout(t), opt)
	if !errors.Is(err, oci.ErrDigestMismatch) || r.Totals.Failed != 10 {
		t.Fatalf("got %v and %+v, want ten failures", err, r.Totals)
	}
	if reads.Load() > 3*3*3 {
		t.Errorf("%d reads of a broken layer for ten images", reads.Load())
	}
}

// Where what was made can't be had from the repository that it went into, it is
// made once more; with what the first pass had to learn.
func TestMadeLayerThatCantBeShared(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "cache/x", Typeflag: tar.TypeReg, Mode: 0o644}, {Name: "data", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2 << 20},
		{Name: "keep", Typeflag: tar.TypeLink, Linkname: "cache/x", Mode: 0o644},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(random(h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src, near := &images{far: newFar(t)}, newFar(t)
	for _, repo := range []string{"org/a", "org/b"} {
		src.add(t, repo, "v1", imagetest.New(imagetest.Linux, map[string]string{"of": repo}, imagetest.Gzip(b.Bytes())))
	}
	near.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("mount") {
			r.URL.RawQuery = ""
		}
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && notFound(w)
	})
	opt := filtering(t, near, "", "exclude:pattern=cache")
	opt.Verify = 0
	dst := near.target(t)
	r := mustCopy(t, src, dst, opt)
	if n := r.Transfers; r.Totals.Copied != 2 || n["layers_filtered"] != 1 || n["passes_restarted"] != 2 {
		t.Errorf("got %+v, %v, want one pass that began again, and the other image's as well", r.Totals, n)
	}
	near.fail(nil)
	for _, item := range src.items {
		written(t, dst, to(t, opt, item))
	}
}

func random(n int64) []byte {
	b := make([]byte, n)
	rng := imagetest.Random(9, int(n)).Bytes
	copy(b, rng)
	return b
}

// An interrupt ends passes that are under way, and what was made is remembered.
func TestInterruptWhileLayersAreMade(t *testing.T) {
	src, near, cache := large(t, 4), newFar(t), filepath.Join(t.TempDir(), "cache.json")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int32
	near.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && sent.Add(1) == 3 {
			cancel()
			_, _ = io.Copy(io.Discard, r.Body) // until the client goes away
		}
		return false
	})
	opt := filtering(t, near, cache, "normalize-timestamps")
	opt.Images, opt.Blobs = 1, 1
	r, err := bulk.Copy(ctx, src, near.target(t), opt)
	if !errors.Is(err, context.Canceled) || !r.Interrupted || r.Totals.Failed != 0 {
		t.Fatalf("got %v and %+v, want an interrupted run without failures", err, r.Totals)
	}
	near.fail(nil)
	done := r.Transfers["layers_filtered"]
	again := mustCopy(t, src, near.target(t), opt)
	if n := again.Transfers; done == 0 || n["layers_filtered"] != 6-done || n["layers_from_cache"]+again.Transfers["layers_filtered"] > 6 {
		t.Errorf("after %d layers: %v, want the rest of six", done, n)
	}
}
