package dir_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func open(t *testing.T, uri string, warn func(string)) oci.Target {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	target, err := dir.Kind.Target(t.Context(), u, backend.Env{Warn: warn})
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

func ref(t *testing.T, name string) oci.Ref {
	t.Helper()
	r, err := oci.ParseRef(name, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func blob(d oci.Descriptor, layer int, b []byte) oci.Blob {
	return oci.Blob{Desc: d, Layer: layer, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// put writes img under name as a copy does: layers as plain tar.
func put(ctx context.Context, target oci.Target, name oci.Ref, img imagetest.Image, from oci.Descriptor) error {
	dst, err := target.Image(ctx, name)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		return err
	}
	config := img.Blobs[m.Config.Digest]
	if _, err := dst.PutBlob(ctx, blob(m.Config, -1, config)); err != nil {
		return err
	}
	for i, l := range m.Layers {
		raw, err := inflate(img.Blobs[l.Digest])
		if err != nil {
			return err
		}
		d := oci.Descriptor{Digest: digest.FromBytes(raw), Size: -1}
		if ok, err := dst.Has(ctx, d); err != nil {
			return err
		} else if ok {
			continue
		}
		if _, err := dst.PutBlob(ctx, blob(d, i, raw)); err != nil {
			return err
		}
	}
	root, err := dst.PutManifest(ctx, img.Raw, img.Desc.MediaType)
	if err != nil {
		return err
	}
	if err := dst.Commit(ctx, root, from); err != nil {
		return err
	}
	return errors.Join(dst.Verify(ctx, root, false), dst.Close())
}

func inflate(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
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

var (
	base  = imagetest.Random(1, 3000)
	top   = imagetest.Random(2, 5000)
	first = imagetest.New(imagetest.Linux, map[string]string{"name": "grün"}, base, top)
	other = imagetest.New(imagetest.Linux, map[string]string{"v": "2"}, base, imagetest.Random(3, 100))
	nova  = oci.Ref{Registry: "quay.io", Repository: "kolla/nova-api", Tag: "2025.1"}
)

func config(img imagetest.Image) ocispec.Descriptor {
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		panic(err)
	}
	return m.Config
}

// expand puts the digests of first into a golden text.
func expand(s string) string {
	return strings.NewReplacer("$CONFIG", config(first).Digest.Encoded(), "$BASE", base.DiffID.Encoded(),
		"$TOP", top.DiffID.Encoded(), "$DIGEST", string(first.Desc.Digest)).Replace(s)
}

const plainGolden = `[
    {
        "Config": "$CONFIG.json",
        "Layers": [
            "$BASE/layer.tar",
            "$TOP/layer.tar"
        ],
        "RepoTags": [
            "nova-api:2025.1"
        ],
        "Source": {
            "digest": "$DIGEST",
            "reference": "quay.io/kolla/nova-api:2025.1",
            "sizes": [
                4608,
                6656
            ]
        }
    }
]`

const uniqueGolden = `[
    {
        "Config": "$CONFIG.json",
        "ImageName": "kolla/nova-api",
        "Layers": [
            "$BASE/layer.tar",
            "$TOP/layer.tar"
        ],
        "RepoTags": [
            "nova-api:2025.1"
        ],
        "Source": {
            "digest": "$DIGEST",
            "platform": {
                "architecture": "arm64",
                "os": "linux",
                "variant": "v8"
            },
            "reference": "quay.io/kolla/nova-api:2025.1",
            "sizes": [
                4608,
                6656
            ]
        }
    }
]`

func TestPlainGolden(t *testing.T) {
	folder := t.TempDir()
	target := open(t, "dir://"+folder, nil)
	if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, folder, "manifest.json"), expand(plainGolden); got != want {
		t.Errorf("manifest.json is\n%s\nwant\n%s", got, want)
	}
	const catalog = "{\n    \"kolla/nova-api\": {\n        \"2025.1\": \"manifest.json\"\n    }\n}"
	if got := read(t, folder, "catalog.json"); got != catalog {
		t.Errorf("catalog.json is\n%s\nwant\n%s", got, catalog)
	}
	c := config(first).Digest
	if got, want := read(t, folder, c.Encoded()+".json"), string(first.Blobs[c]); got != want {
		t.Errorf("the config's bytes changed:\n%s\nwant\n%s", got, want)
	}
	raw, err := inflate(top.Bytes)
	if got := read(t, folder, top.DiffID.Encoded(), "layer.tar"); err != nil || got != string(raw) {
		t.Errorf("the layer has %d bytes, want %d, %v", len(got), len(raw), err)
	}
	want := []string{c.Encoded() + ".json", base.DiffID.Encoded(), top.DiffID.Encoded(), "catalog.json", "manifest.json"}
	slices.Sort(want)
	if got := ls(t, folder); !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func TestUniqueGolden(t *testing.T) {
	folder := t.TempDir()
	target := open(t, "directory://"+folder+"?unique_names=true", nil)
	from := oci.Descriptor{Digest: first.Desc.Digest, Platform: &oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}
	if err := put(t.Context(), target, nova, first, from); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), target, ref(t, "quay.io/kolla/keystone:2025.1"), other, other.Desc); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, folder, "manifest-kolla_nova-api-2025.1.json"), expand(uniqueGolden); got != want {
		t.Errorf("the manifest is\n%s\nwant\n%s", got, want)
	}
	const catalog = `{
    "kolla/keystone": {
        "2025.1": "manifest-kolla_keystone-2025.1.json"
    },
    "kolla/nova-api": {
        "2025.1": "manifest-kolla_nova-api-2025.1.json"
    }
}`
	if got := read(t, folder, "catalog.json"); got != catalog {
		t.Errorf("catalog.json is\n%s\nwant\n%s", got, catalog)
	}
	dst, err := target.Image(t.Context(), nova)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != from.Digest || !reflect.DeepEqual(d.Platform, from.Platform) {
		t.Errorf("it came from %+v, %v, want %+v", d, err, from)
	}
}

func TestHeadWantsItWhole(t *testing.T) {
	c := config(first).Digest.Encoded() + ".json"
	for name, damage := range map[string]func(folder string) error{
		"layer gone":       func(f string) error { return os.Remove(filepath.Join(f, top.DiffID.Encoded(), "layer.tar")) },
		"layer cut":        func(f string) error { return os.Truncate(filepath.Join(f, top.DiffID.Encoded(), "layer.tar"), 512) },
		"config gone":      func(f string) error { return os.Remove(filepath.Join(f, c)) },
		"config changed":   func(f string) error { return os.WriteFile(filepath.Join(f, c), []byte("{}"), 0o644) },
		"manifest torn":    func(f string) error { return os.Truncate(filepath.Join(f, "manifest.json"), 20) },
		"catalog gone":     func(f string) error { return os.Remove(filepath.Join(f, "catalog.json")) },
		"another's folder": func(f string) error { return os.WriteFile(filepath.Join(f, "catalog.json"), []byte(`{}`), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := put(t.Context(), open(t, "dir://"+folder, nil), nova, first, first.Desc); err != nil {
				t.Fatal(err)
			}
			if err := damage(folder); err != nil {
				t.Fatal(err)
			}
			target := open(t, "dir://"+folder, nil)
			dst, err := target.Image(t.Context(), nova)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
				t.Fatalf("got %v, want not found", err)
			}
			if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
				t.Fatalf("a second run doesn't mend it: %v", err)
			}
			if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != first.Desc.Digest {
				t.Errorf("after the second run: %+v, %v", d, err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	wrong := oci.Descriptor{Digest: base.DiffID, Size: -1}
	traversal := oci.Descriptor{Digest: "sha256:../../../../tmp/x", Size: -1}
	noRootFS := imagetest.Blob(ocispec.MediaTypeImageConfig, []byte(`{"a":1}`))
	tests := []struct {
		name string
		do   func(ctx context.Context, dst oci.Destination) error
		want error
	}{
		{"a layer with other bytes", func(ctx context.Context, dst oci.Destination) error {
			_, err := dst.PutBlob(ctx, blob(wrong, 0, []byte("others")))
			return err
		}, oci.ErrDigestMismatch},
		{"a digest with a path", func(ctx context.Context, dst oci.Destination) error {
			_, err := dst.PutBlob(ctx, blob(traversal, 0, []byte("x")))
			return err
		}, oci.ErrInvalid},
		{"commit without config", func(ctx context.Context, dst oci.Destination) error {
			return dst.Commit(ctx, first.Desc, first.Desc)
		}, oci.ErrNotFound},
		{"commit without layers", func(ctx context.Context, dst oci.Destination) error {
			c := config(first)
			if _, err := dst.PutBlob(ctx, blob(c, -1, first.Blobs[c.Digest])); err != nil {
				return err
			}
			return dst.Commit(ctx, first.Desc, first.Desc)
		}, oci.ErrNotFound},
		{"an artifact", func(ctx context.Context, dst oci.Destination) error {
			if _, err := dst.PutBlob(ctx, blob(noRootFS.Desc, -1, noRootFS.Bytes)); err != nil {
				return err
			}
			return dst.Commit(ctx, first.Desc, first.Desc)
		}, oci.ErrInvalid},
		{"an index", func(ctx context.Context, dst oci.Destination) error {
			_, err := dst.PutManifest(ctx, imagetest.Index(first).Raw, oci.MediaTypeIndex)
			return err
		}, oci.ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			target := open(t, "dir://"+folder, nil)
			dst, err := target.Image(t.Context(), nova)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.do(t.Context(), dst); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err := target.Close(); err != nil {
				t.Fatal(err)
			}
			for _, name := range ls(t, folder) {
				if strings.HasPrefix(name, "manifest") || name == base.DiffID.Encoded() || strings.HasPrefix(name, ".") || name == "catalog.json" {
					t.Errorf("%s was left", name)
				}
			}
		})
	}
}

func TestVerify(t *testing.T) {
	folder := t.TempDir()
	if err := put(t.Context(), open(t, "dir://"+folder, nil), nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(folder, top.DiffID.Encoded(), "layer.tar")
	raw := []byte(read(t, layer))
	raw[2000] ^= 1
	if err := os.WriteFile(layer, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	dst, err := open(t, "dir://"+folder, nil).Image(t.Context(), nova)
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), first.Desc, false); err != nil {
		t.Errorf("the short check reads layers: %v", err)
	}
	if err := dst.Verify(t.Context(), first.Desc, true); !errors.Is(err, oci.ErrDigestMismatch) || !strings.Contains(err.Error(), top.DiffID.Encoded()) {
		t.Errorf("got %v, want a mismatch that names the layer", err)
	}
}
