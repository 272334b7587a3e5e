package layout_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

func desc(text string) oci.Descriptor {
	return oci.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
}

func TestSynthetic(t *testing.T) {
	config, low, high := desc("config"), desc("low"), desc("highest")
	low.MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip" // as it is stored: not what the manifest says
	d, raw, err := layout.Synthetic(config, []oci.Descriptor{low, high})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","size":6},` +
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:6c1ff09db3a73dc4a854f695d20d174a848d55f2d743bab2ee1f8fc75be454f3","size":3},` +
		`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:4d8fa801a136f34fc9bd99a4c8c89ed44d5c84a30458ebada129d47f6e069534","size":7}]}`
	got, err := oci.ParseManifest(oci.MediaTypeManifest, raw)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != want {
		t.Errorf("manifest\n%s\nwant\n%s", raw, want)
	}
	if got.Config.Digest != config.Digest || len(got.Layers) != 2 || got.Layers[1].Digest != high.Digest || got.Layers[0].MediaType != ocispec.MediaTypeImageLayer {
		t.Errorf("manifest %s", raw)
	}
	if d.MediaType != oci.MediaTypeManifest || d.Digest != digest.FromBytes(raw) || d.Size != int64(len(raw)) || d.Annotations[oci.AnnotationSynthetic] != "true" {
		t.Errorf("descriptor %+v", d)
	}
}

func TestSyntheticWithoutLayers(t *testing.T) {
	_, raw, err := layout.Synthetic(desc("config"), nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(oci.MediaTypeManifest, raw)
	if err != nil || m.Layers == nil || len(m.Layers) != 0 {
		t.Errorf("%s: %v", raw, err)
	}
}

func TestSyntheticRefuses(t *testing.T) {
	good := desc("x")
	negative := good
	negative.Size = -1
	many := make([]oci.Descriptor, 20_000)
	for i := range many {
		many[i] = good
	}
	tests := []struct {
		name   string
		config oci.Descriptor
		layers []oci.Descriptor
	}{
		{"no config", oci.Descriptor{}, nil},
		{"config size", negative, nil},
		{"layer without digest", good, []oci.Descriptor{good, {Size: 1}}},
		{"layer's digest", good, []oci.Descriptor{{Digest: "sha256:../../etc", Size: 1}}},
		{"layer's size", good, []oci.Descriptor{negative}},
		{"too many layers", good, many},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := layout.Synthetic(tt.config, tt.layers); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
		})
	}
}

// What the parts of this program tell each other of a descriptor isn't taken from
// a file, nor written into one.
func TestIndexKeepsPrivateAnnotationsOut(t *testing.T) {
	d := desc("manifest")
	d.MediaType, d.Annotations = oci.MediaTypeManifest, map[string]string{oci.AnnotationSynthetic: "true", oci.AnnotationFilters: "x", "kept": "yes"}
	x := layout.NewIndex()
	if _, err := x.Set("v1", d); err != nil {
		t.Fatal(err)
	}
	raw, err := x.Marshal()
	if err != nil || strings.Contains(string(raw), "quaymaster") || !strings.Contains(string(raw), "kept") {
		t.Errorf("%s, %v", raw, err)
	}
	hostile := strings.Replace(string(raw), `"kept":"yes"`, `"kept":"yes","`+oci.AnnotationSynthetic+`":"true"`, 1)
	x, err = layout.ParseIndex([]byte(hostile))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := x.Get("v1"); !ok || oci.IsSynthetic(got) || got.Annotations["kept"] != "yes" {
		t.Errorf("%+v", got)
	}
	if again, err := x.Marshal(); err != nil || string(again) != hostile {
		t.Errorf("%s, %v: want what is there to stay", again, err)
	}
}
