package ocidir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func openTarget(t *testing.T, uri string) oci.Target {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	target, err := ocidir.Kind.Target(t.Context(), u, backend.Env{})
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

func openSource(t *testing.T, uri string, warn func(string)) backend.Images {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	images, err := ocidir.Kind.Source(t.Context(), u, backend.Env{Warn: warn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { images.Close() })
	return images
}

func blobOf(d oci.Descriptor, b []byte) oci.Blob {
	return oci.Blob{Desc: d, Layer: -1, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// put writes img under name, as a copy does.
func put(ctx context.Context, target oci.Target, name string, img imagetest.Image) error {
	ref, err := oci.ParseRef(name, "")
	if err != nil {
		return err
	}
	dst, err := target.Image(ctx, ref)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := putAll(ctx, dst, img); err != nil {
		return err
	}
	if err := dst.Commit(ctx, img.Desc, img.Desc); err != nil {
		return err
	}
	return dst.Verify(ctx, img.Desc, false)
}

func putAll(ctx context.Context, dst oci.Destination, img imagetest.Image) error {
	for _, c := range img.Children {
		if err := putAll(ctx, dst, c); err != nil {
			return err
		}
	}
	for d, b := range img.Blobs {
		desc := oci.Descriptor{Digest: d, Size: int64(len(b))}
		if ok, err := dst.Has(ctx, desc); err != nil {
			return err
		} else if ok {
			continue
		}
		if _, err := dst.PutBlob(ctx, blobOf(desc, b)); err != nil {
			return err
		}
	}
	got, err := dst.PutManifest(ctx, img.Raw, img.Desc.MediaType)
	if err == nil && got.Digest != img.Desc.Digest {
		err = fmt.Errorf("manifest is %s, want %s", got.Digest, img.Desc.Digest)
	}
	return err
}

// list gives the references and digests of a source.
func list(t *testing.T, images backend.Images) []string {
	t.Helper()
	var all []string
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item.Ref.String()+" "+string(item.Desc.Digest))
	}
	return all
}

// readBack compares all of img with what the layout gives.
func readBack(t *testing.T, src oci.Source, ref string, img imagetest.Image) {
	t.Helper()
	d, raw, err := src.Resolve(t.Context(), ref)
	if err != nil || !bytes.Equal(raw, img.Raw) || d.MediaType != img.Desc.MediaType || d.Digest != img.Desc.Digest || d.Size != img.Desc.Size {
		t.Fatalf("resolve %q: got %+v, %v, want %+v", ref, d, err, img.Desc)
	}
	for dgst, want := range img.Blobs {
		rc, err := src.Fetch(t.Context(), oci.Descriptor{Digest: dgst, Size: int64(len(want))})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("blob %s: %d of %d bytes, %v", dgst, len(got), len(want), err)
		}
	}
	for _, c := range img.Children {
		readBack(t, src, string(c.Desc.Digest), c)
	}
}

var (
	base  = imagetest.Random(1, 3000)
	arm   = oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	first = imagetest.New(imagetest.Linux, nil, base, imagetest.Random(2, 5000))
	other = imagetest.New(imagetest.Linux, map[string]string{"v": "2"}, base, imagetest.Random(3, 100))
	multi = imagetest.Index(first, imagetest.New(arm, nil, imagetest.Random(4, 10)))
)

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "layout")
	target := openTarget(t, "ocidir://"+dir)
	images := map[string]imagetest.Image{
		"quay.io/kolla/nova-api:2025.1":                    first,
		"quay.io/kolla/keystone:2025.1":                    multi,
		"h.example:5000/a/b:v1":                            other,
		"h.example/by/digest@" + string(other.Desc.Digest): other,
	}
	for name, img := range images {
		if err := put(t.Context(), target, name, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}

	src := openSource(t, "ocidir://"+dir, nil)
	if !src.Bulk() {
		t.Error("a layout without REF is no bulk source")
	}
	want := []string{
		"h.example/by/digest@" + string(other.Desc.Digest) + " " + string(other.Desc.Digest),
		"h.example:5000/a/b:v1 " + string(other.Desc.Digest),
		"quay.io/kolla/keystone:2025.1 " + string(multi.Desc.Digest),
		"quay.io/kolla/nova-api:2025.1 " + string(first.Desc.Digest),
	}
	if got := list(t, src); !slices.Equal(got, want) {
		t.Errorf("listed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for item, err := range src.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := src.Source(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		img := images[item.Ref.String()]
		readBack(t, s, string(item.Desc.Digest), img)
		readBack(t, s, item.Ref.Tag, img)
	}
	names, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(dir + "/.*")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := append(names, hidden...), []string{dir + "/blobs", dir + "/index.json", dir + "/oci-layout"}; !slices.Equal(got, want) {
		t.Errorf("the layout holds %q, want %q", got, want)
	}
}

// TestSameInputSameOutput asks for equal bytes whatever the order of images.
func TestSameInputSameOutput(t *testing.T) {
	names := []string{"h.x/a:1", "h.x/b:1", "h.x/c:1"}
	var got []string
	for range 2 {
		dir := t.TempDir()
		target := openTarget(t, "ocidir://"+dir)
		for _, n := range names {
			if err := put(t.Context(), target, n, first); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(dir + "/index.json")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(raw))
		slices.Reverse(names)
	}
	if got[0] != got[1] {
		t.Errorf("index.json differs:\n%s\n%s", got[0], got[1])
	}
}

func TestRefNames(t *testing.T) {
	dir := t.TempDir()
	if err := put(t.Context(), openTarget(t, "ocidir://"+dir+":v1"), "quay.io/a/b:other", first); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), openTarget(t, "ocidir://"+dir+":h.x/c/d:v2"), "quay.io/a/b:other", other); err != nil {
		t.Fatal(err)
	}
	if traits := openTarget(t, "ocidir://"+dir+":v3").Traits(); traits.Many {
		t.Error("a path with REF takes many images")
	}
	want := []string{"h.x/c/d:v2 " + string(other.Desc.Digest), "v1 " + string(first.Desc.Digest)}
	if got := list(t, openSource(t, "ocidir://"+dir, nil)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	raw, err := os.ReadFile(dir + "/index.json")
	if err != nil || !strings.Contains(string(raw), `"`+ocispec.AnnotationRefName+`":"v1"`) {
		t.Errorf("a bare tag is not the ref name: %s, %v", raw, err)
	}
}

func TestSelect(t *testing.T) {
	dir := t.TempDir()
	target := openTarget(t, "ocidir://"+dir)
	for name, img := range map[string]imagetest.Image{"h.x/a:1": first, "h.x/b:1": other, "h.x/b:2": multi} {
		if err := put(t.Context(), target, name, img); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, ref string
		want      oci.Digest
		kind      error
		says      string
	}{
		{"full reference", "h.x/b:1", other.Desc.Digest, nil, ""},
		{"a tag that one has", "2", multi.Desc.Digest, nil, ""},
		{"digest", string(first.Desc.Digest), first.Desc.Digest, nil, ""},
		{"a tag that two have", "1", "", oci.ErrUsage, "h.x/a:1, h.x/b:1"},
		{"unknown", "h.x/c:1", "", oci.ErrNotFound, "h.x/a:1, h.x/b:1, h.x/b:2"},
		{"traversal", "../../x", "", oci.ErrNotFound, "h.x/a:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := openSource(t, "ocidir://"+dir+":"+tt.ref, nil)
			if src.Bulk() {
				t.Error("a named image is a bulk source")
			}
			for item, err := range src.Discover(t.Context()) {
				if !errors.Is(err, tt.kind) || item.Desc.Digest != tt.want || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %s, %v, want %s, %v with %q", item.Desc.Digest, err, tt.want, tt.kind, tt.says)
				}
			}
		})
	}
}

func TestSecondRunWritesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := put(t.Context(), openTarget(t, "ocidir://"+dir), "h.x/a:1", multi); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir + "/index.json")
	if err != nil {
		t.Fatal(err)
	}
	target := openTarget(t, "ocidir://"+dir)
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != multi.Desc.Digest {
		t.Fatalf("the name means %s, %v, want %s", d.Digest, err, multi.Desc.Digest)
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(dir + "/index.json")
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("index.json was written again, %v", err)
	}
}

func TestLookingLeavesNoTrace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nothing")
	target := openTarget(t, "ocidir://"+dir)
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if ok, err := dst.Has(t.Context(), first.Desc); ok || err != nil {
		t.Errorf("got %v, %v, want false", ok, err)
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
}
