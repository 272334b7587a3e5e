package check_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func TestSharedLayersAreReadOnce(t *testing.T) {
	const images = 40
	bases := []imagetest.Layer{base(), imagetest.Random(1, 300_000), imagetest.Random(2, 100_000)}
	far := newFar(t)
	bad := bases[1].Desc.Digest
	for _, damaged := range []bool{false, true} {
		checker := check.New(check.Options{})
		far.asked = map[string]int{}
		var wg sync.WaitGroup
		for i := range images {
			c := of(imagetest.New(imagetest.Linux, nil, append(bases[:3:3], imagetest.Random(uint64(100+i), 500))...))
			if damaged {
				c.damage(bad)
			}
			src, item := far.add(t, fmt.Sprintf("org/app-%d", i), c)
			wg.Go(func() {
				r, err := checker.Image(t.Context(), src, item)
				if err != nil || damaged != (r.Errors == 1) || r.Warnings != 0 {
					t.Errorf("image %d: %v, %+v", i, err, r)
				}
			})
		}
		wg.Wait()
		for d, n := range far.blobReads() {
			if n != 1 && !(damaged && d == string(bad)) {
				t.Errorf("%s was read %d times", d, n)
			}
		}
	}
}

// What had to give way is read again and says the same.
func TestLittleMemory(t *testing.T) {
	far := newFar(t)
	make := func() *content {
		return image(entries(reg("etc/os-release", "")), entries(hardlink("x", "usr/lib/libc"), reg("ETC/os-release", "")))
	}
	src, item := far.add(t, "org/app", make())
	want, err := check.Image(t.Context(), src, item, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	checker := check.New(check.Options{Memory: 1, Blobs: 1})
	for range 3 {
		got, err := checker.Image(t.Context(), src, item)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	if !strings.Contains(fmt.Sprint(want), "duplicate-file") || !strings.Contains(fmt.Sprint(want), "case-conflict") {
		t.Errorf("got %v, want a duplicate and a conflict", want)
	}
}

// A place that doesn't answer says nothing of an image.
func TestWhatCannotBeReadIsAnError(t *testing.T) {
	for _, part := range []string{"/manifests/sha256:", "/blobs/"} {
		far := newFar(t)
		src, item := far.add(t, "org/app", image())
		far.fail(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		r, err := check.Image(t.Context(), src, item, check.Options{})
		if !errors.Is(err, oci.ErrDenied) || r.Errors != 0 || !strings.HasPrefix(err.Error(), "check "+item.Ref.String()+": ") {
			t.Errorf("%s: got %v, %+v", part, err, r)
		}
	}
}

func TestALayerThatBreaksOffIsReadAgainByTheNext(t *testing.T) {
	far := newFar(t)
	c := image(imagetest.Random(7, 50_000))
	src, item := far.add(t, "org/app", c)
	checker := check.New(check.Options{})
	d := string(c.manifest().Layers[1].Digest)
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d) {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, err := checker.Image(t.Context(), src, item); err == nil {
		t.Fatal("want an error")
	}
	far.fail(nil)
	if r, err := checker.Image(t.Context(), src, item); err != nil || r.Errors != 0 {
		t.Errorf("got %v, %+v", err, r)
	}
}

func TestInterrupted(t *testing.T) {
	far := newFar(t)
	ctx, cancel := context.WithCancel(t.Context())
	src, item := far.add(t, "org/app", image())
	far.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
		}
		return false
	})
	if r, err := check.Image(ctx, src, item, check.Options{}); !errors.Is(err, context.Canceled) || r.Errors != 0 {
		t.Errorf("got %v, %+v", err, r)
	}
}

func TestTagsThatMoved(t *testing.T) {
	far := newFar(t)
	_, item := far.add(t, "org/app", image())
	src, _ := far.add(t, "org/app", image(entries(reg("new", ""))))
	if _, err := check.Image(t.Context(), src, item, check.Options{}); !errors.Is(err, oci.ErrMoved) {
		t.Errorf("got %v, want that it moved", err)
	}
	far.content = map[string]*content{}
	if _, err := check.Image(t.Context(), src, item, check.Options{}); !errors.Is(err, oci.ErrGone) {
		t.Errorf("got %v, want that it is gone", err)
	}
}

func TestPlatforms(t *testing.T) {
	tests := []struct {
		name  string
		image *content
		want  oci.Platform
		ok    bool
	}{
		{"of an index", two(), oci.Platform{OS: "linux", Architecture: "arm64"}, true},
		{"variant of an index", two(), arm, true},
		{"not in the index", two(), oci.Platform{OS: "linux", Architecture: "s390x"}, false},
		{"the image's", image(), imagetest.Linux, true},
		{"not the image's", image(), arm, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, item := tt.image.layout(t)
			r, err := check.Image(t.Context(), src, item, check.Options{Platforms: []oci.Platform{tt.want}})
			if tt.ok != (err == nil) || !tt.ok && !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("got %v, want found %v", err, tt.ok)
			}
			for _, f := range r.Results {
				if strings.HasPrefix(f.Message, "linux/amd64: ") {
					t.Errorf("a platform that wasn't asked for: %v", f)
				}
			}
		})
	}
}

// The size is the manifest's word, also of a layer that was read before.
func TestOneLayerUnderTwoSizes(t *testing.T) {
	far, checker := newFar(t), check.New(check.Options{})
	src, item := far.add(t, "org/good", image())
	if r, err := checker.Image(t.Context(), src, item); err != nil || r.Errors != 0 {
		t.Errorf("got %v, %+v", err, r)
	}
	src, item = far.add(t, "org/bad", image().edit(func(m map[string]any) { layerOf(m, 0)["size"] = 7 }))
	r, err := checker.Image(t.Context(), src, item)
	if err != nil || r.Errors != 1 || r.Results[len(r.Results)-1].Check != "blob-size" {
		t.Errorf("got %v, %+v, want the size alone", err, r)
	}
	for d, n := range far.blobReads() {
		if d == string(base().Desc.Digest) && n != 1 {
			t.Errorf("the layer was read %d times", n)
		}
	}
}
