package daemon_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A plainImage is one with its layers as plain tar.
type plainImage struct {
	config imagetest.Layer
	layers []imagetest.Layer
}

// tarOf gives a tar of the files name -> content.
func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), ModTime: time.Unix(1600000000, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newPlain makes an image of layers that runs cmd.
func newPlain(t testing.TB, cmd []string, layers ...[]byte) plainImage {
	t.Helper()
	created := time.Unix(1600000000, 0).UTC()
	c := ocispec.Image{Platform: imagetest.Linux, Created: &created, Config: ocispec.ImageConfig{Cmd: cmd}}
	c.RootFS.Type = "layers"
	var img plainImage
	for _, raw := range layers {
		l := imagetest.Blob(ocispec.MediaTypeImageLayer, raw)
		img.layers = append(img.layers, l)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
		c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: "COPY . ."}, ocispec.History{Created: &created, CreatedBy: "ENV a=b", EmptyLayer: true})
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	img.config = imagetest.Blob(ocispec.MediaTypeImageConfig, raw)
	return img
}

func opener(raw []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}

// plainOf gives a layer without its compression.
func plainOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	r, err := layer.Open(bytes.NewReader(raw), layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// put puts all of img but its name.
func (img plainImage) put(t testing.TB, dest oci.Destination) oci.Descriptor {
	t.Helper()
	var ds []oci.Descriptor
	for i, l := range append(img.layers[:len(img.layers):len(img.layers)], img.config) {
		b := oci.Blob{Desc: l.Desc, DiffID: l.DiffID, Layer: i, Open: opener(l.Bytes)}
		if i == len(img.layers) {
			b.Layer, b.DiffID = oci.NoLayer, ""
		} else {
			ds = append(ds, l.Desc)
		}
		if _, err := dest.PutBlob(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	root, raw, err := layout.Synthetic(img.config.Desc, ds)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dest.PutManifest(t.Context(), raw, root.MediaType); err != nil {
		t.Fatal(err)
	}
	return root
}

// streamed is what came in a stream.
type streamed struct {
	config    []byte
	manifest  []byte
	layers    map[oci.Digest][]byte // by diffID, as they came
	described []oci.Blob
}

// readStream reads all of src's image.
func readStream(t *testing.T, src oci.Source) streamed {
	t.Helper()
	got, err := tryStream(t, src)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryStream(t *testing.T, src oci.Source) (streamed, error) {
	t.Helper()
	got := streamed{layers: map[oci.Digest][]byte{}}
	for b, err := range src.(oci.Streamer).Stream(t.Context(), "") {
		if err != nil {
			return got, err
		}
		raw, err := readBlob(t, b)
		if err != nil {
			return got, err
		}
		if int64(len(raw)) != b.Desc.Size || b.Desc.Digest != "" && digest.FromBytes(raw) != b.Desc.Digest {
			t.Errorf("%d bytes of %s, described as %+v", len(raw), digest.FromBytes(raw), b.Desc)
		}
		got.described = append(got.described, b)
		switch {
		case b.Layer != oci.NoLayer:
			id := digest.FromBytes(plainOf(t, raw))
			if b.DiffID != "" && b.DiffID != id {
				t.Errorf("a layer %s said to be %s", id, b.DiffID)
			}
			if got.layers[id] != nil {
				t.Errorf("layer %s came twice", id)
			}
			got.layers[id] = raw
		case oci.IsManifestType(b.Desc.MediaType):
			got.manifest = raw
		default:
			got.config = raw
		}
	}
	return got, nil
}

func readBlob(t testing.TB, b oci.Blob) ([]byte, error) {
	t.Helper()
	rc, err := b.Open(t.Context())
	if err != nil {
		return nil, err
	}
	if checks := oci.Checks(rc, b.Desc.Digest); b.Layer != oci.NoLayer && checks != (b.Desc.Digest != "") {
		t.Errorf("layer %d, of digest %q: said to be checked: %v", b.Layer, b.Desc.Digest, checks)
	}
	raw, err := io.ReadAll(rc)
	return raw, errors.Join(err, rc.Close())
}

// check reads src in all ways and compares it with img.
func (img plainImage) check(t *testing.T, src oci.Source) {
	t.Helper()
	got := readStream(t, src)
	if !bytes.Equal(got.config, img.config.Bytes) || got.manifest != nil {
		t.Errorf("config %s, manifest %s", got.config, got.manifest)
	}
	want := map[oci.Digest]int{}
	var ids []oci.Digest
	var layers []oci.Descriptor
	for i, l := range img.layers {
		ids, layers = append(ids, l.DiffID), append(layers, l.Desc)
		if !bytes.Equal(got.layers[l.DiffID], l.Bytes) {
			t.Errorf("layer %d: other bytes", i)
		}
		want[l.DiffID]++
	}
	if len(got.layers) != len(want) {
		t.Errorf("%d layers, want %d", len(got.layers), len(want))
	}
	for _, b := range got.described {
		if b.Layer >= 0 && ids[b.Layer] != b.DiffID {
			t.Errorf("layer %s said to be number %d", b.DiffID, b.Layer)
		}
	}
	wantDesc, wantRaw, err := layout.Synthetic(img.config.Desc, layers)
	if err != nil {
		t.Fatal(err)
	}
	d, raw, err := src.Resolve(t.Context(), "")
	if err != nil || !bytes.Equal(raw, wantRaw) || d.Digest != wantDesc.Digest || d.Annotations[oci.AnnotationSynthetic] == "" {
		t.Errorf("resolved %+v, %v", d, err)
	}
	for _, l := range append(img.layers[:len(img.layers):len(img.layers)], img.config) {
		if !bytes.Equal(read(t, src, l.Desc), l.Bytes) {
			t.Errorf("blob %s: other bytes", l.Desc.Digest)
		}
	}
	d, described, err := src.(oci.Describer).Describe(t.Context(), "")
	if err != nil || d.Annotations[oci.AnnotationConfig] != string(img.config.Desc.Digest) {
		t.Errorf("described %+v, %v", d, err)
	}
	var told, own ocispec.Image
	if json.Unmarshal(described, &told) != nil || json.Unmarshal(img.config.Bytes, &own) != nil {
		t.Fatalf("%s", described)
	}
	if !slices.Equal(told.RootFS.DiffIDs, own.RootFS.DiffIDs) || !slices.Equal(told.Config.Cmd, own.Config.Cmd) || told.Platform.OS != own.OS ||
		!told.Created.Equal(*own.Created) || len(told.History) != len(own.History) {
		t.Errorf("described as %s, want %s", described, img.config.Bytes)
	}
	for i, h := range told.History {
		if w := own.History[i]; h.CreatedBy != w.CreatedBy || h.EmptyLayer != w.EmptyLayer || !h.Created.Equal(*w.Created) {
			t.Errorf("history %d: %+v, want %+v", i, h, w)
		}
	}
}
