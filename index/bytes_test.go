package index_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

const top = `"annotations":{"b":"ä<","a":""},"x-size":1.50`

func parse(t *testing.T, mt oci.MediaType, raw string) *index.Index {
	t.Helper()
	ix, err := index.Parse(mt, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// pretty gives ix with other bytes that say the same.
func pretty(t *testing.T, ix *index.Index) *index.Index {
	t.Helper()
	return parse(t, ix.Desc.MediaType, strings.ReplaceAll(string(ix.Raw), `,"`, ",\n\t\""))
}

func TestMergeKeepsBytes(t *testing.T) {
	source := list(t, oci.MediaTypeDockerList, top, "linux/amd64=aa", "linux/arm64=ab")
	extra := list(t, oci.MediaTypeDockerList, top, "linux/arm64=ab", "linux/386=bb", "linux/amd64=aa")
	tests := []struct {
		name         string
		source, dest *index.Index
		opt          index.Options
		want         *index.Index // whose bytes; nil: neither's
	}{
		{"A16 the destination has nothing extra: the source's", source, docker(t, "linux/amd64=b1"), index.Options{}, source},
		{"A16 the destination is equal: nothing to write", source, pretty(t, source), index.Options{}, pretty(t, source)},
		{"A16 the destination has it all and more", source, extra, index.Options{}, extra},
		{"A16 eligible platforms make the source, in another order", source, list(t, oci.MediaTypeDockerList, top, "linux/amd64=aa", "linux/arm64=b2", "linux/386=bb"),
			index.Options{Eligible: only("linux/arm64")}, nil},
		{"A83 the entries are the source's in another order: the source's", source, docker(t, "linux/amd64=aa"), index.Options{Eligible: only("linux/arm64")}, source},
		{"A16 the destination's annotations are others", source, list(t, oci.MediaTypeDockerList, `"annotations":{}`, "linux/amd64=aa", "linux/arm64=ab"), index.Options{}, source},
		{"an entry says something else", source, list(t, oci.MediaTypeDockerList, top, "linux/amd64=aa", `linux/arm64=ab +"urls":[]`), index.Options{}, source},
		{"the destination is of another type", source, list(t, oci.MediaTypeIndex, top, "linux/amd64=aa", "linux/arm64=ab"), index.Options{}, source},
		{"another type was asked for", source, nil, index.Options{Type: "oci"}, nil},
		{"a platform twice: the first counts", docker(t, "linux/amd64=aa", "linux/amd64=ab"), docker(t, "linux/amd64=ab", "linux/amd64=aa"), index.Options{}, docker(t, "linux/amd64=aa", "linux/amd64=ab")},
		{"pubtools style is made anew", source, pretty(t, source), index.Options{Style: index.Pubtools}, nil},
		{"pubtools style, and no destination: the source's", source, nil, index.Options{Style: index.Pubtools}, source},
		{"pubtools style, eligible platforms, the entries are the source's: its bytes", source, pretty(t, source), index.Options{Style: index.Pubtools, Eligible: except()}, source},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := merge(t, tt.source, tt.dest, tt.opt)
			switch raw := string(res.Raw); {
			case tt.want != nil && raw != string(tt.want.Raw):
				t.Errorf("got %s, want %s", raw, tt.want.Raw)
			case tt.want == nil && (raw == string(tt.source.Raw) || tt.dest != nil && raw == string(tt.dest.Raw)):
				t.Errorf("got the bytes that were there: %s", raw)
			}
		})
	}
}

func TestMergeTypes(t *testing.T) {
	const untyped = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` +
		`aa00000000000000000000000000000000000000000000000000000000000000","platform":{"os":"linux","architecture":"amd64"}}]}`
	ociList := func(entries ...string) *index.Index { return list(t, oci.MediaTypeIndex, "", entries...) }
	tests := []struct {
		name         string
		source, dest *index.Index
		opt          index.Options
		want, said   oci.MediaType
	}{
		{"A13 OCI and OCI", ociList("oci linux/amd64=aa"), ociList("oci linux/386=bb"), index.Options{}, oci.MediaTypeIndex, oci.MediaTypeIndex},
		{"A13 and without a mediaType", parse(t, "", untyped), ociList("oci linux/386=bb"), index.Options{}, oci.MediaTypeIndex, ""},
		{"A13 the header's type", parse(t, oci.MediaTypeIndex, untyped), ociList("oci linux/386=bb"), index.Options{}, oci.MediaTypeIndex, ""},
		{"A14 docker, and an OCI entry is kept", fresh(t), ociList("oci linux/386=bb"), index.Options{}, oci.MediaTypeIndex, oci.MediaTypeIndex},
		{"A14 docker, and an attestation is kept", fresh(t), docker(t, "linux/386=bb", "att:bb=cc"), index.Options{}, oci.MediaTypeIndex, oci.MediaTypeIndex},
		{"A14 docker, and the OCI entry is replaced", fresh(t), ociList("oci linux/arm64=bb"), index.Options{}, oci.MediaTypeDockerList, oci.MediaTypeDockerList},
		{"OCI, and a docker entry is kept", ociList("oci linux/amd64=aa"), old(t), index.Options{}, oci.MediaTypeIndex, oci.MediaTypeIndex},
		{"docker, and OCI was asked for", fresh(t), old(t), index.Options{Type: "oci"}, oci.MediaTypeIndex, oci.MediaTypeIndex},
		{"OCI of docker entries, and docker was asked for", ociList("linux/arm64=aa"), old(t), index.Options{Type: "docker"}, oci.MediaTypeDockerList, oci.MediaTypeDockerList},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := merge(t, tt.source, tt.dest, tt.opt)
			m, err := oci.ParseManifest(res.Desc.MediaType, res.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if res.Desc.MediaType != tt.want || m.Said != tt.said {
				t.Errorf("a list of type %q that says %q, want %q and %q", res.Desc.MediaType, m.Said, tt.want, tt.said)
			}
			promoted := tt.opt.Type == "" && res.Desc.MediaType != tt.source.Desc.MediaType
			if warned := strings.Contains(strings.Join(res.Warnings, "\n"), "becomes an OCI index"); warned != promoted {
				t.Errorf("warnings %q", res.Warnings)
			}
		})
	}
}

// TestMergeKeepsTheRest has everything in it that a list can have and that isn't an
// entry's platform.
func TestMergeKeepsTheRest(t *testing.T) {
	source := parse(t, "", `{ "x-new": {"b": 1.0, "a": [ ]},
		"mediaType": "application/vnd.oci.image.index.v1+json", "artifactType": "a/b", "schemaVersion": 2,
		"manifests": [ {"x-entry": 1E3, "digest": "`+string(long("aa"))+`", "size": 1, "mediaType": "application/vnd.oci.image.manifest.v1+json",
			"platform": {"architecture": "amd64", "os": "linux", "x-cpu": "<&>"}, "annotations": {"k": "\u00fc\ud83d\ude00"}} ],
		"subject": {"digest": "`+string(long("ee"))+`", "size": 7, "mediaType": "application/vnd.oci.image.manifest.v1+json"},
		"annotations": {"z": "1", "y": "2"} }`)
	dest := parse(t, "", `{"schemaVersion":2,"annotations":{"gone":"1"},"manifests":[{"digest":"`+string(long("bb"))+
		`", "size": 10000000000000000, "mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"os":"linux","architecture":"386"},"urls":[ "x" ]}]}`)
	want := `{"x-new":{"b":1.0,"a":[]},"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"a/b","schemaVersion":2,` +
		`"manifests":[{"x-entry":1E3,"digest":"` + string(long("aa")) + `","size":1,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"platform":{"architecture":"amd64","os":"linux","x-cpu":"<&>"},"annotations":{"k":"\u00fc\ud83d\ude00"}},` +
		`{"digest":"` + string(long("bb")) + `","size":10000000000000000,"mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"os":"linux","architecture":"386"},"urls":["x"]}],` +
		`"subject":{"digest":"` + string(long("ee")) + `","size":7,"mediaType":"application/vnd.oci.image.manifest.v1+json"},"annotations":{"z":"1","y":"2"}}`
	if res := merge(t, source, dest, index.Options{}); string(res.Raw) != want {
		t.Errorf("got  %s\nwant %s", res.Raw, want)
	}
}

// A19: what Python's json.dumps(sort_keys=True, indent=4) makes of the merged list.
func TestPubtoolsStyle(t *testing.T) {
	res := merge(t, fresh(t), docker(t, "linux/arm64=1111", `linux/armhfp=2222 +"x":{"b":[],"a":{}}`, `linux/amd64=5555 +"annotations":{"ü":"😀<\u001f\u007f/","A":"\ud800"}`), index.Options{Style: index.Pubtools})
	entry := func(name, arch, before, after string) string {
		return `
        {` + before + `
            "digest": "` + string(long(name)) + `",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "platform": {
                "architecture": "` + arch + `",
                "os": "linux"
            },
            "size": 429` + after + `
        }`
	}
	want := `{
    "manifests": [` + strings.Join([]string{entry("6666", "arm64", "", ""), entry("7777", "ppc64le", "", ""), entry("8888", "s390x", "", ""),
		entry("2222", "armhfp", "", `,
            "x": {
                "a": {},
                "b": []
            }`), entry("5555", "amd64", `
            "annotations": {
                "A": "\ud800",
                "\u00fc": "\ud83d\ude00<\u001f\u007f/"
            },`, "")}, ",") + `
    ],
    "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
    "schemaVersion": 2
}`
	if string(res.Raw) != want {
		t.Errorf("got %s\nwant %s", res.Raw, want)
	}
}

// What is indented 28 deep is a hundred times as long, and must be neither kept nor
// copied once for each depth: a list of 4 MiB would take gigabytes.
func TestMergeOfDeepLists(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 28) + "[1" + strings.Repeat(",1", 200_000) + "]" + strings.Repeat("}", 28)
	source, dest := list(t, oci.MediaTypeIndex, `"x":`+deep, "linux/amd64=aa"), list(t, oci.MediaTypeIndex, "", "linux/386=bb")
	for _, style := range []index.Style{index.Compact, index.Pubtools} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := index.Merge(source, dest, index.Options{Style: style})
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
			t.Errorf("%q: %d MiB were allocated for a list of %d KiB", style, got>>20, len(source.Raw)>>10)
		}
		if tooLong := style == index.Pubtools; errors.Is(err, oci.ErrTooLarge) != tooLong {
			t.Errorf("%q: got %v, want too large: %t", style, err, tooLong)
		}
	}
}
