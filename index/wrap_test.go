package index_test

import (
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

func TestWrap(t *testing.T) {
	image := func(mt oci.MediaType, name string) oci.Descriptor {
		return oci.Descriptor{MediaType: mt, Digest: long(name), Size: 9, Annotations: map[string]string{"place": "its own"}}
	}
	amd64 := oci.Platform{OS: "linux", Architecture: "amd64"}
	tests := []struct {
		name string
		of   oci.Descriptor
		p    oci.Platform
		opt  index.Options
		want string // "" for an error
	}{
		{"docker", image(oci.MediaTypeDockerManifest, "aa"), amd64, index.Options{},
			`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` +
				string(long("aa")) + `","size":9,"platform":{"architecture":"amd64","os":"linux"}}]}`},
		{"OCI, no platform", image(oci.MediaTypeManifest, "aa"), oci.Platform{}, index.Options{},
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` +
				string(long("aa")) + `","size":9}]}`},
		{"docker in an OCI index", image(oci.MediaTypeDockerManifest, "aa"), oci.Platform{}, index.Options{Type: "oci"},
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` +
				string(long("aa")) + `","size":9}]}`},
		{"OCI in a docker list", image(oci.MediaTypeManifest, "aa"), amd64, index.Options{Type: "docker"}, ""},
		{"an index", image(oci.MediaTypeIndex, "aa"), amd64, index.Options{}, ""},
		{"no digest", oci.Descriptor{MediaType: oci.MediaTypeManifest}, amd64, index.Options{}, ""},
	}
	for _, tt := range tests {
		got, err := index.Wrap(tt.of, tt.p, tt.opt)
		switch {
		case tt.want == "" && !errors.Is(err, oci.ErrInvalid):
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		case tt.want != "" && (err != nil || string(got.Raw) != tt.want):
			t.Errorf("%s: got %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

// TestWrapMerges: single images as either side of a merge.
func TestWrapMerges(t *testing.T) {
	wrap := func(name, arch string) *index.Index {
		ix, err := index.Wrap(oci.Descriptor{MediaType: oci.MediaTypeDockerManifest, Digest: long(name), Size: 9}, oci.Platform{OS: "linux", Architecture: arch}, index.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return ix
	}
	for _, tt := range []struct {
		name         string
		source, dest *index.Index
		want         string
	}{
		{"into a list", wrap("aa", "amd64"), old(t), "aa 1111 2222 3333"},
		{"a list into it", fresh(t), wrap("aa", "amd64"), "6666 7777 8888 aa"},
		{"into another", wrap("aa", "amd64"), wrap("bb", "arm64"), "aa bb"},
		{"into its own kind", wrap("aa", "amd64"), wrap("bb", "amd64"), "aa"},
	} {
		res := merge(t, tt.source, tt.dest, index.Options{})
		if got := digests(&res.Index); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mt, raw string
		kind    error
	}{
		{"a manifest", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + entryJSON(t, "-=aa") + `,"layers":[]}`, oci.ErrInvalid},
		{"docker schema 1", oci.MediaTypeDockerSchema1, `{"schemaVersion":1}`, oci.ErrUnsupported},
		{"another type than it says", oci.MediaTypeIndex, string(fresh(t).Raw), oci.ErrInvalid},
		{"an entry that is null", oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[null]}`, oci.ErrInvalid},
		{"a key twice", oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"manifests":[]}`, oci.ErrInvalid},
		{"features that are no list", oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[{"digest":"` + string(long("aa")) + `","platform":{"os.features":"x"}}]}`, oci.ErrInvalid},
	} {
		if ix, err := index.Parse(tt.mt, []byte(tt.raw)); !errors.Is(err, tt.kind) {
			t.Errorf("%s: got %v, %v", tt.name, ix, err)
		}
	}
}
