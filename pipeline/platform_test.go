package pipeline

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// entry is an index entry for "os/arch[/variant]", its digest made of the name.
func entry(name string) oci.Descriptor {
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromString(name), Size: 1}
	if name != "" {
		p := platform(name)
		d.Platform = &p
	}
	return d
}

func platform(name string) oci.Platform {
	parts := strings.Split(name+"//", "/")
	return oci.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// about is the attestation of the entry called name.
func about(name string) oci.Descriptor {
	d := entry("unknown/unknown")
	d.Digest = digest.FromString("attestation of " + name)
	d.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": string(digest.FromString(name)),
	}
	return d
}

func TestPick(t *testing.T) {
	tests := []struct {
		name    string
		want    string
		entries []string
		picked  string // "" is an error
	}{
		{"exact", "linux/arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"no variant before the usual one", "linux/arm64", []string{"linux/arm64/v8", "linux/arm64"}, "linux/arm64"},
		{"arm64 is v8", "linux/arm64", []string{"linux/arm64/v9", "linux/arm64/v8"}, "linux/arm64/v8"},
		{"v8 is arm64", "linux/arm64/v8", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm is v7", "linux/arm", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"arm without v7 is v6", "linux/arm", []string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v6"},
		{"a variant is meant", "linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm/v6"},
		{"v6 is not v7", "linux/arm/v6", []string{"linux/arm/v7"}, ""},
		{"amd64 before v3", "linux/amd64", []string{"linux/amd64/v3", "linux/amd64"}, "linux/amd64"},
		{"v1 before v3", "linux/amd64", []string{"linux/amd64/v3", "linux/amd64/v1"}, "linux/amd64/v1"},
		{"the only variant", "linux/amd64", []string{"linux/amd64/v3", "linux/arm64"}, "linux/amd64/v3"},
		{"two variants, none usual", "linux/amd64", []string{"linux/amd64/v3", "linux/amd64/v2"}, ""},
		{"other os", "windows/amd64", []string{"linux/amd64"}, ""},
		{"attestations are no images", "unknown/unknown", []string{"unknown/unknown", "linux/amd64"}, ""},
		{"nothing said, one image", "linux/amd64", []string{""}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var entries []oci.Descriptor
			for _, e := range tt.entries {
				entries = append(entries, entry(e))
			}
			got, err := pick(entries, platform(tt.want))
			if tt.entries[0] == "" { // an entry without a platform
				if err != nil || got.Digest != entries[0].Digest {
					t.Fatalf("got %v, %v, want the only entry", got, err)
				}
				return
			}
			if tt.picked == "" {
				if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "the index has") {
					t.Fatalf("got %v, %v, want an error that lists what there is", got.Platform, err)
				}
				return
			}
			if err != nil || PlatformName(got.Platform) != tt.picked {
				t.Fatalf("got %v, %v, want %s", got.Platform, err, tt.picked)
			}
		})
	}
}

func TestChooseTakesAttestationsAlong(t *testing.T) {
	entries := []oci.Descriptor{
		entry("linux/amd64"), entry("linux/arm64"), entry("linux/s390x"),
		about("linux/amd64"), about("linux/arm64"), about("linux/s390x"),
	}
	got, err := choose(entries, []oci.Platform{platform("linux/s390x"), platform("linux/amd64")})
	if err != nil {
		t.Fatal(err)
	}
	want := []oci.Digest{entries[0].Digest, entries[2].Digest, entries[3].Digest, entries[5].Digest}
	var digests []oci.Digest
	for _, d := range got {
		digests = append(digests, d.Digest)
	}
	if !slices.Equal(digests, want) {
		t.Errorf("chose %v, want %v", digests, want)
	}
	if left := others(entries, got); !slices.Equal(left, []string{"linux/arm64"}) {
		t.Errorf("left out %v, want linux/arm64", left)
	}
	if _, err := choose(entries, []oci.Platform{platform("linux/amd64"), platform("linux/riscv64")}); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("one of two is missing: got %v, want not found", err)
	}
}

func TestKeepEntries(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	one := func(d oci.Digest) string { return `{"digest": "` + string(d) + `",  "size":1, "x": [ 1 ] }` }
	tests := []struct{ name, raw, want string }{
		{"other bytes stay", `{ "z":1, "manifests" : [ ` + one(a) + ` , ` + one(b) + ` ] ,"annotations":{"k":"manifests"}}`,
			`{ "z":1, "manifests" : [` + one(a) + `] ,"annotations":{"k":"manifests"}}`},
		{"a value that reads manifests", `{"artifactType":"manifests","sub":{"manifests":[1]},"manifests":[` + one(b) + `,` + one(a) + `]}`,
			`{"artifactType":"manifests","sub":{"manifests":[1]},"manifests":[` + one(a) + `]}`},
		{"none", `{"schemaVersion":2}`, ""},
		{"not a list", `{"manifests":{"digest":"x"}}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := keepEntries([]byte(tt.raw), func(d oci.Digest) bool { return d == a })
			if tt.want == "" {
				if !errors.Is(err, oci.ErrInvalid) {
					t.Fatalf("got %s, %v, want invalid", got, err)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Fatalf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func FuzzKeepEntries(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := oci.ParseManifest(oci.MediaTypeIndex, raw)
		if err != nil || m.Manifests == nil {
			return
		}
		out, err := keepEntries(raw, func(oci.Digest) bool { return true })
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		again, err := oci.ParseManifest(oci.MediaTypeIndex, out)
		if err != nil || len(again.Manifests) != len(m.Manifests) {
			t.Fatalf("%s became %s: %v", raw, out, err)
		}
	})
}
