package pipeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// keys gives the keys of a JSON object in their order.
func keys(t *testing.T, v any) []string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var out []string
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			t.Fatal(err)
		}
		out = append(out, k.(string))
	}
	return out
}

func TestInspect(t *testing.T) {
	far := newFar(t)
	img := imagetest.New(imagetest.Linux, map[string]string{"k": "v"}, imagetest.Random(1, 100), imagetest.Random(2, 100))
	item := far.push(t, "org/app", "v1", img)
	info, err := pipeline.Inspect(t.Context(), far.source(t, item), item, nil)
	if err != nil {
		t.Fatal(err)
	}
	if asked := far.log(); len(asked) != 2 {
		t.Errorf("asked %q, want manifest and config", asked)
	}
	want := []string{"image", "tag", "schema_version", "media_type", "config_digest", "config_size", "layer_count",
		"total_compressed_size", "layers", "architecture", "os", "variant", "created", "diff_ids", "history_count",
		"empty_layer_count", "labels", "env", "entrypoint", "cmd", "working_dir", "exposed_ports", "volumes", "digest"}
	if got := keys(t, info); !slices.Equal(got, want) {
		t.Errorf("keys\n%q, want\n%q", got, want)
	}
	if got, want := keys(t, info.Layers[0]), []string{"index", "digest", "size", "media_type", "compression", "diff_id", "created_by"}; !slices.Equal(got, want) {
		t.Errorf("keys of a layer %q, want %q", got, want)
	}
	if info.Image != "org/app" || info.Tag != "v1" || info.LayerCount != 2 || *info.Layers[1].CreatedBy != "layer 1" ||
		info.Layers[0].Compression != "gzip" || info.Labels["k"] != "v" || info.Digest != img.Desc.Digest || info.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("got %+v", info)
	}
	raw, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"entrypoint":null`, `"exposed_ports":[]`, `"volumes":[]`, `"variant":""`} {
		if !bytes.Contains(raw, []byte(part)) {
			t.Errorf("%s lacks %s", raw, part)
		}
	}
}

func TestInspectIndex(t *testing.T) {
	far := newFar(t)
	index := attested(t, arm64, imagetest.Linux)
	item := far.push(t, "org/app", "v1", index)
	src := far.source(t, item)
	info, err := pipeline.Inspect(t.Context(), src, item, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []pipeline.PlatformInfo{
		{OS: "linux", Architecture: "arm64", Variant: "v8", Digest: index.Children[0].Desc.Digest, Size: index.Children[0].Desc.Size},
		{OS: "linux", Architecture: "amd64", Digest: index.Children[1].Desc.Digest, Size: index.Children[1].Desc.Size},
	}
	if !slices.Equal(info.Platforms, want) || info.Architecture != "amd64" || info.Digest != index.Desc.Digest {
		t.Errorf("got %+v, want linux/amd64 of %v", info, want)
	}
	if info, err := pipeline.Inspect(t.Context(), src, item, []oci.Platform{arm64}); err != nil || info.Architecture != "arm64" {
		t.Errorf("chosen platform: got %+v, %v", info, err)
	}
	if _, err := pipeline.Inspect(t.Context(), src, item, []oci.Platform{{OS: "windows", Architecture: "amd64"}}); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a platform that isn't there: got %v, want not found", err)
	}
	only := far.push(t, "org/app", "v2", imagetest.Index(layered(arm64, 3)))
	if info, err := pipeline.Inspect(t.Context(), src, only, nil); err != nil || info.Architecture != "arm64" {
		t.Errorf("an index without linux/amd64: got %+v, %v, want its first image", info, err)
	}
}

func TestInspectWhatIsNoImage(t *testing.T) {
	far := newFar(t)
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 10))
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m.MediaType = ""
	m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	m.Layers[0].MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	item := far.push(t, "org/chart", "v1", remake(t, img, m))
	info, err := pipeline.Inspect(t.Context(), far.source(t, item), item, nil)
	if err != nil || info.ConfigInfo != nil || info.MediaType != nil || info.LayerCount != 1 {
		t.Errorf("got %+v, %v, want a manifest without config or media type", info, err)
	}
	raw, err := json.Marshal(info)
	if err != nil || !bytes.Contains(raw, []byte(`"media_type":null,"config_digest"`)) || bytes.Contains(raw, []byte("architecture")) {
		t.Errorf("got %s, %v", raw, err)
	}
}

// Of an image without a manifest there is what the config says, as occystrap
// tells it: layers by their diff_ids, and nothing made up.
func TestInspectWithoutManifest(t *testing.T) {
	src := imagetest.NewPlain(t.TempDir())
	img := imagetest.New(imagetest.Linux, map[string]string{"a&b": "<c>"}, imagetest.Random(1, 100), imagetest.Random(2, 100))
	item := src.Add("org/app", "v1", img)
	info, err := pipeline.Inspect(t.Context(), src, item, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"image", "tag", "architecture", "os", "variant", "created", "diff_ids", "layer_count", "layers", "history_count",
		"empty_layer_count", "labels", "env", "entrypoint", "cmd", "working_dir", "exposed_ports", "volumes"}
	if got := keys(t, info); !slices.Equal(got, want) {
		t.Errorf("keys\n%q, want\n%q", got, want)
	}
	if got, want := keys(t, info.TarLayers[0]), []string{"index", "diff_id", "created_by"}; !slices.Equal(got, want) {
		t.Errorf("keys of a layer %q, want %q", got, want)
	}
	if info.ManifestInfo != nil || info.Digest != "" || info.TarLayers[1].DiffID != info.DiffIDs[1] || *info.TarLayers[1].CreatedBy != "layer 1" {
		t.Errorf("got %+v", info)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(info); err != nil || !bytes.Contains(b.Bytes(), []byte(`"a&b":"<c>"`)) {
		t.Errorf("%s, %v", &b, err)
	}
	for d, n := range src.Reads() {
		if n != 1 || bytes.Contains(img.Raw, []byte(d)) != true {
			t.Errorf("%s was read %d times", d, n)
		}
	}
}
