package ociarchive_test

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

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ociarchive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func openTarget(t *testing.T, uri string) oci.Target {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	target, err := ociarchive.Kind.Target(t.Context(), u, backend.Env{})
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
	images, err := ociarchive.Kind.Source(t.Context(), u, backend.Env{Warn: warn})
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

// save writes images by name into the archive at path, in one run.
func save(t *testing.T, path string, images map[string]imagetest.Image) {
	t.Helper()
	target := openTarget(t, "oci-archive://"+path)
	for name, img := range images {
		if err := put(t.Context(), target, name, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
}

func sourceOf(t *testing.T, images backend.Images, name string) oci.Source {
	t.Helper()
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Ref.String() == name {
			src, err := images.Source(t.Context(), item)
			if err != nil {
				t.Fatal(err)
			}
			return src
		}
	}
	t.Fatalf("no image %q", name)
	return nil
}

func ls(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var all = map[string]imagetest.Image{
	"quay.io/kolla/nova-api:2025.1":                    first,
	"quay.io/kolla/keystone:2025.1":                    multi,
	"h.example:5000/a/b:v1":                            other,
	"h.example/by/digest@" + string(other.Desc.Digest): other,
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "a.tar")
	save(t, path, all)
	src := openSource(t, "oci-archive://"+path, func(s string) { t.Error(s) })
	if !src.Bulk() {
		t.Error("an archive without REF is no bulk source")
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
	for name, img := range all {
		readBack(t, sourceOf(t, src, name), "", img)
	}
	if got := ls(t, filepath.Dir(path)); !slices.Equal(got, []string{"a.tar"}) {
		t.Errorf("the folder holds %q", got)
	}
	if one := openSource(t, "oci-archive://"+path+":v1", nil); one.Bulk() || len(list(t, one)) != 1 {
		t.Error("a named member isn't one image")
	}
}
