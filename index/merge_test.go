package index_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// long gives a digest that begins with name, which is hexadecimal.
func long(name string) oci.Digest {
	return oci.Digest("sha256:" + name + strings.Repeat("0", 64-len(name)))
}

// short undoes long.
func short(d oci.Digest) string {
	return strings.TrimRight(strings.TrimPrefix(string(d), "sha256:"), "0")
}

// entryJSON writes an entry from "[oci ]PLATFORM=DIGEST" and what is behind " +".
// PLATFORM is a name as index.Name gives it, "-" for none, "att:DIGEST" for an
// attestation about that. Plus is members in JSON.
func entryJSON(t *testing.T, text string) string {
	t.Helper()
	text, plus, _ := strings.Cut(text, " +")
	if plus != "" {
		plus = "," + plus
	}
	mt := oci.MediaTypeDockerManifest
	text, isOCI := strings.CutPrefix(text, "oci ")
	if isOCI {
		mt = oci.MediaTypeManifest
	}
	platform, name, ok := strings.Cut(text, "=")
	if !ok {
		t.Fatalf("no entry: %q", text)
	}
	about, isAtt := strings.CutPrefix(platform, "att:")
	switch {
	case isAtt:
		mt = oci.MediaTypeManifest
		plus += fmt.Sprintf(`,"platform":{"architecture":"unknown","os":"unknown"},"annotations":{"vnd.docker.reference.digest":%q,"vnd.docker.reference.type":"attestation-manifest"}`, long(about))
	case platform != "-":
		plus += `,"platform":` + platformJSON(t, platform)
	}
	return fmt.Sprintf(`{"mediaType":%q,"size":429,"digest":%q%s}`, mt, long(name), plus)
}

func platformJSON(t *testing.T, name string) string {
	t.Helper()
	name, features, _ := strings.Cut(name, ",")
	name, version, _ := strings.Cut(name, ":")
	parts := strings.SplitN(name, "/", 3)
	var out []string
	if len(parts) == 1 { // without an OS
		parts = append([]string{""}, parts...)
	} else {
		out = append(out, fmt.Sprintf(`"os":%q`, parts[0]))
	}
	out = append(out, fmt.Sprintf(`"architecture":%q`, parts[1]))
	if len(parts) == 3 {
		out = append(out, fmt.Sprintf(`"variant":%q`, parts[2]))
	}
	if version != "" {
		out = append(out, fmt.Sprintf(`"os.version":%q`, version))
	}
	if features != "" {
		out = append(out, `"os.features":["`+strings.ReplaceAll(features, ",", `","`)+`"]`)
	}
	return "{" + strings.Join(out, ",") + "}"
}

// list parses a list of mt with entries; plus are more members of it.
func list(t *testing.T, mt oci.MediaType, plus string, entries ...string) *index.Index {
	t.Helper()
	texts := make([]string, len(entries))
	for i, e := range entries {
		texts[i] = entryJSON(t, e)
	}
	if plus != "" {
		plus = "," + plus
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]%s}`, mt, strings.Join(texts, ","), plus)
	ix, err := index.Parse(mt, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

func docker(t *testing.T, entries ...string) *index.Index {
	return list(t, oci.MediaTypeDockerList, "", entries...)
}

// fresh and old are the lists of the acceptance statements.
func fresh(t *testing.T) *index.Index {
	return docker(t, "linux/arm64=6666", "linux/ppc64le=7777", "linux/s390x=8888")
}

func old(t *testing.T) *index.Index {
	return docker(t, "linux/arm64=1111", "linux/armhfp=2222", "linux/ppc64le=3333", "linux/amd64=5555")
}

func digests(ix *index.Index) string {
	var out []string
	for _, d := range ix.Entries {
		out = append(out, short(d.Digest))
	}
	return strings.Join(out, " ")
}

func merge(t *testing.T, source, dest *index.Index, opt index.Options) *index.Result {
	t.Helper()
	before := []string{string(source.Raw), ""}
	if dest != nil {
		before[1] = string(dest.Raw)
	}
	res, err := index.Merge(source, dest, opt)
	if err != nil {
		t.Fatal(err)
	}
	if string(source.Raw) != before[0] || dest != nil && string(dest.Raw) != before[1] {
		t.Error("an input was changed")
	}
	if res.Desc.Digest != digest.FromBytes(res.Raw) || res.Desc.Size != int64(len(res.Raw)) {
		t.Errorf("the descriptor %v is of other bytes", res.Desc)
	}
	return res
}

func only(names ...string) func(oci.Platform) bool {
	return func(p oci.Platform) bool { return slices.Contains(names, index.Name(p)) }
}

func except(names ...string) func(oci.Platform) bool {
	return func(p oci.Platform) bool { return !slices.Contains(names, index.Name(p)) }
}

func TestMerge(t *testing.T) {
	oldList := []string{"linux/arm64=1111", "linux/armhfp=2222", "linux/ppc64le=3333", "linux/amd64=5555"}
	newList := []string{"linux/arm64=6666", "linux/ppc64le=7777", "linux/s390x=8888"}
	tests := []struct {
		name         string
		source, dest []string
		opt          index.Options
		want         string
	}{
		{"A3 A4 A5 what the source lacks is added behind it", newList, oldList, index.Options{}, "6666 7777 8888 2222 5555"},
		{"A7 eligible platforms only", newList, oldList, index.Options{Eligible: only("linux/arm64", "linux/s390x")}, "6666 8888 2222 3333 5555"},
		{"A8 eligible platforms, and no destination", newList, nil, index.Options{Eligible: only("linux/arm64", "linux/s390x")}, "6666 8888"},
		{"A10 an eligible platform that the source lacks stays the destination's", newList, oldList, index.Options{Eligible: only("linux/amd64")}, "1111 2222 3333 5555"},
		{"no eligible match and no destination: an empty list", newList, nil, index.Options{Eligible: only("linux/amd64")}, ""},
		{"no destination: the source", newList, nil, index.Options{}, "6666 7777 8888"},
		{"A11 arm/v6 is not arm/v7", []string{"linux/arm/v7=aa"}, []string{"linux/arm/v6=b6", "linux/arm/v7=b7"}, index.Options{}, "aa b6"},
		{"bare arm is arm/v7", []string{"linux/arm=aa"}, []string{"linux/arm/v6=b6", "linux/arm/v7=b7"}, index.Options{}, "aa b6"},
		{"names of one platform", []string{"linux/x86_64=a1", "linux/aarch64=a2"}, []string{"linux/amd64=b1", "linux/arm64/v8=b2", "linux/amd64/v2=b3"}, index.Options{}, "a1 a2 b3"},
		{"A12 another OS is another platform", []string{"linux/amd64=aa"}, []string{"windows/amd64:10.0.17763.1=bb"}, index.Options{}, "aa bb"},
		{"A12 a newer revision of a build replaces it", []string{"windows/amd64:10.0.17763.2=aa"}, []string{"windows/amd64:10.0.17763.1=bb"}, index.Options{}, "aa"},
		{"A12 another build is kept", []string{"windows/amd64:10.0.20348.2=aa"}, []string{"windows/amd64:10.0.17763.1=bb"}, index.Options{}, "aa bb"},
		{"A12 revisions told apart", []string{"windows/amd64:10.0.17763.2=aa"}, []string{"windows/amd64:10.0.17763.1=bb", "windows/amd64:10.0.17763.2=cc"}, index.Options{StrictOSVersion: true}, "aa bb"},
		{"OS features in another order", []string{"windows/amd64:10.0.17763,b,a=aa"}, []string{"windows/amd64:10.0.17763,a,b=bb", "windows/amd64:10.0.17763,a=cc"}, index.Options{}, "aa cc"},
		{"no OS, and nobody knows: linux", []string{"amd64=aa"}, []string{"linux/amd64=bb", "windows/amd64=cc"}, index.Options{}, "aa cc"},
		{"no OS, but the config has one", []string{"amd64=aa"}, []string{"linux/amd64=bb", "windows/amd64=cc"},
			index.Options{Platforms: map[oci.Digest]oci.Platform{long("aa"): {OS: "windows", Architecture: "amd64"}}}, "aa bb"},
		{"no platform, but the config has one", []string{"linux/arm=aa"}, []string{"-=bb", "-=cc"},
			index.Options{Platforms: map[oci.Digest]oci.Platform{long("bb"): {OS: "linux", Architecture: "arm", Variant: "v7"}}}, "aa cc"},
		{"no platform, and nobody knows: its digest counts", []string{"linux/arm=aa", "-=dd"}, []string{"-=bb", "-=aa", "linux/386=dd"}, index.Options{}, "aa dd bb"},
		{"unknown is no platform", []string{"unknown/unknown=aa"}, []string{"unknown/unknown=bb"}, index.Options{}, "aa bb"},
		{"A15 an attestation follows its image", []string{"linux/amd64=aa"},
			[]string{"linux/amd64=b1", "linux/arm64=b2", "att:b1=c1", "att:b2=c2"}, index.Options{}, "aa b2 c2"},
		{"A15 the source's as well", []string{"linux/amd64=aa", "att:aa=a1", "linux/arm64=ab", "att:ab=a2"},
			[]string{"linux/amd64=b1", "att:b1=c1"}, index.Options{Eligible: except("linux/amd64")}, "ab a2 b1 c1"},
		{"an attestation of the side that isn't taken", []string{"linux/amd64=aa", "att:aa=a1", "linux/arm64=ab"},
			[]string{"linux/amd64=aa", "att:aa=c1"}, index.Options{Eligible: except("linux/amd64")}, "ab aa c1"},
		{"both have the image, the source its own attestation", []string{"linux/amd64=aa", "att:aa=a1"}, []string{"linux/amd64=aa", "att:aa=c1", "linux/386=bb"}, index.Options{}, "aa a1 bb"},
		{"both have the image, only the destination an attestation", []string{"linux/amd64=aa"}, []string{"linux/amd64=aa", "att:aa=c1", "linux/386=bb"}, index.Options{}, "aa c1 bb"},
		{"both have image and attestation", []string{"linux/amd64=aa", "att:aa=c1"}, []string{"att:aa=c1", "linux/amd64=aa", "linux/386=bb"}, index.Options{}, "aa c1 bb"},
		{"attestations about attestations", []string{"linux/amd64=aa"}, []string{"linux/amd64=b1", "att:c1=d1", "att:e1=e2", "att:e2=e1", "linux/386=bb", "att:bb=c1"}, index.Options{}, "aa d1 bb c1"},
		{"an attestation about two images, of which one goes", []string{"linux/amd64=aa"},
			[]string{"linux/amd64=b1", "linux/arm64=b2", "att:b1=c1", "att:b2=c1", "att:b2=c1"}, index.Options{}, "aa b2 c1"},
		{"an attestation about two images, one of either side", []string{"linux/amd64=aa", "att:aa=c1"}, []string{"linux/386=bb", "att:bb=c1"}, index.Options{}, "aa c1 bb c1"},
		{"about nothing: it goes with the first that goes", []string{"linux/amd64=aa"}, []string{"linux/amd64=b1", "linux/386=bb", "att:ff=c1"}, index.Options{}, "aa bb"},
		{"the source has a platform twice", []string{"linux/amd64=aa", "linux/amd64=ab"}, []string{"linux/amd64=ba", "linux/386=bb"}, index.Options{}, "aa ab bb"},
		{"the destination has a platform twice", []string{"linux/amd64=aa"}, []string{"linux/386=ba", "linux/386=bb", "linux/386=ba"}, index.Options{}, "aa ba bb"},
		{"one digest without and with a platform", []string{"linux/amd64=aa"}, []string{"-=bb", "linux/386=bb", "-=bb"}, index.Options{}, "aa bb"},
		{"one digest for two platforms", []string{"linux/amd64=aa"}, []string{"linux/386=aa"}, index.Options{}, "aa aa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var dest *index.Index
			if tt.dest != nil {
				dest = docker(t, tt.dest...)
			}
			res := merge(t, docker(t, tt.source...), dest, tt.opt)
			if got := digests(&res.Index); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			again := merge(t, docker(t, tt.source...), &res.Index, tt.opt)
			if string(again.Raw) != string(res.Raw) {
				t.Errorf("merged into the result: %s, want it unchanged", digests(&again.Index))
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	big := make([]string, 10_000)
	for i := range big {
		big[i] = fmt.Sprintf("linux/a%d=%x", i, i+1)
	}
	tests := []struct {
		name         string
		source, dest *index.Index
		opt          index.Options
		kind         error
	}{
		{"no source", nil, old(t), index.Options{}, oci.ErrUsage},
		{"a type that there isn't", fresh(t), old(t), index.Options{Type: "OCI"}, oci.ErrUsage},
		{"a style that there isn't", fresh(t), old(t), index.Options{Style: "pretty"}, oci.ErrUsage},
		{"an index that nobody parsed", &index.Index{Entries: fresh(t).Entries}, old(t), index.Options{}, oci.ErrUsage},
		{"A14 docker, and an entry is OCI's", fresh(t), docker(t, "oci linux/386=bb"), index.Options{Type: "docker"}, oci.ErrInvalid},
		{"docker, and the source has a subject", list(t, oci.MediaTypeIndex, `"subject":`+entryJSON(t, "-=ee"), "linux/386=bb"), nil, index.Options{Type: "docker"}, oci.ErrInvalid},
		{"more entries than a manifest may have", docker(t, big...), old(t), index.Options{}, oci.ErrInvalid},
	}
	for _, tt := range tests {
		if res, err := index.Merge(tt.source, tt.dest, tt.opt); !errors.Is(err, tt.kind) {
			t.Errorf("%s: got %v, %v", tt.name, res, err)
		}
	}
}
