package ocidir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestChildWithoutMediaType: what it refers to is looked at too.
func TestChildWithoutMediaType(t *testing.T) {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"digest":%q,"size":%d}]}`, oci.MediaTypeIndex, first.Desc.Digest, first.Desc.Size)
	img := imagetest.Image{Raw: raw, Children: []imagetest.Image{first},
		Desc: oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	dir := t.TempDir()
	target := openTarget(t, "ocidir://"+dir)
	if err := put(t.Context(), target, "h.x/a:1", img); err != nil {
		t.Fatal(err)
	}
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Head(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file(dir, base.Desc.Digest)); err != nil {
		t.Fatal(err)
	}
	if d, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a layer is gone: got %s, %v, want not found", d.Digest, err)
	}
}

// TestManyUnreadableNames: a hostile index.json doesn't flood the terminal.
func TestManyUnreadableNames(t *testing.T) {
	const names = 1000
	dir := made(t)
	var entries []string
	for i := range names {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":"../%d/%s"}}`,
			first.Desc.MediaType, first.Desc.Digest, first.Desc.Size, i, strings.Repeat("x", 5000)))
	}
	if err := os.WriteFile(dir+"/index.json", []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var warned []string
	if got := list(t, openSource(t, "ocidir://"+dir, func(s string) { warned = append(warned, s) })); len(got) != 1 {
		t.Errorf("listed %d images, want 1: they are one by digest", len(got))
	}
	if said := strings.Join(warned, "\n"); len(warned) > 10 || len(said) > 10_000 || !strings.Contains(said, fmt.Sprint(names-len(warned)+1, " more")) {
		t.Errorf("warned %d lines of %d bytes: %.300s", len(warned), len(said), said)
	}
}

func TestDiscoverEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	target := openTarget(t, "ocidir://"+dir)
	for _, name := range []string{"h.x/a:1", "h.x/b:1"} {
		if err := put(t.Context(), target, name, first); err != nil {
			t.Fatal(err)
		}
	}
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	n := 0
	for _, err := range openSource(t, "ocidir://"+dir, nil).Discover(ctx) {
		n++
		last = err
		cancel(cause)
	}
	if n != 2 || !errors.Is(last, cause) {
		t.Errorf("%d items, the last with %v; want one and the context's cause", n, last)
	}
}
