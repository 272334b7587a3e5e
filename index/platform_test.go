package index_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

func TestNames(t *testing.T) {
	tests := []struct {
		p                       oci.Platform
		normalised, key, strict string
	}{
		{oci.Platform{OS: "linux", Architecture: "x86_64"}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{oci.Platform{OS: "linux", Architecture: "amd64", Variant: "v1"}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{oci.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}, "linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v3"},
		{oci.Platform{OS: "linux", Architecture: "aarch64"}, "linux/arm64", "linux/arm64", "linux/arm64"},
		{oci.Platform{OS: "linux", Architecture: "aarch64", Variant: "v8"}, "linux/arm64", "linux/arm64", "linux/arm64"},
		{oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v9"}, "linux/arm64/v9", "linux/arm64/v9", "linux/arm64/v9"},
		{oci.Platform{OS: "linux", Architecture: "arm"}, "linux/arm/v7", "linux/arm/v7", "linux/arm/v7"},
		{oci.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, "linux/arm/v6", "linux/arm/v6", "linux/arm/v6"},
		{oci.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.4"}, "windows/amd64:10.0.17763.4", "windows/amd64:10.0.17763", "windows/amd64:10.0.17763.4"},
		{oci.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.4.5"}, "windows/amd64:10.0.17763.4.5", "windows/amd64:10.0.17763", "windows/amd64:10.0.17763.4.5"},
		{oci.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0"}, "windows/amd64:10.0", "windows/amd64:10.0", "windows/amd64:10.0"},
		{oci.Platform{OS: "freebsd", Architecture: "amd64", OSVersion: "13.1.2.3"}, "freebsd/amd64:13.1.2.3", "freebsd/amd64:13.1.2.3", "freebsd/amd64:13.1.2.3"},
		{oci.Platform{OS: "windows", Architecture: "amd64", OSFeatures: []string{"win32k", "a,b"}}, "windows/amd64,a,b,win32k", "windows/amd64,a%2Cb,win32k", "windows/amd64,a%2Cb,win32k"},
		{oci.Platform{OS: "linux", Architecture: "a/b"}, "linux/a/b", "linux/a%2Fb", "linux/a%2Fb"},
		{oci.Platform{}, "unknown", "/", "/"},
	}
	for _, tt := range tests {
		if got := index.Name(index.Normalize(tt.p)); got != tt.normalised {
			t.Errorf("%+v: normalised %s, want %s", tt.p, got, tt.normalised)
		}
		if got := index.Key(tt.p, false); got != tt.key {
			t.Errorf("%+v: key %s, want %s", tt.p, got, tt.key)
		}
		if got := index.Key(tt.p, true); got != tt.strict {
			t.Errorf("%+v: strict key %s, want %s", tt.p, got, tt.strict)
		}
	}
}

func TestNormalizeLeavesItsInput(t *testing.T) {
	p := oci.Platform{OS: "windows", Architecture: "amd64", OSFeatures: []string{"b", "a"}}
	index.Normalize(p)
	if p.OSFeatures[0] != "b" {
		t.Errorf("the caller's features are %v", p.OSFeatures)
	}
}

func TestConfigPlatform(t *testing.T) {
	got, err := index.ConfigPlatform([]byte(`{"architecture":"arm","os":"linux","variant":"v6","os.version":"1","os.features":["f"],"config":{}}`))
	want := oci.Platform{OS: "linux", Architecture: "arm", Variant: "v6", OSVersion: "1", OSFeatures: []string{"f"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, config := range []string{`{}`, `[]`, `{"os":"linux"}`, `{"architecture":1}`, ``} {
		if got, err := index.ConfigPlatform([]byte(config)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %+v, %v", config, got, err)
		}
	}
}

// TestPlatformsFillIn: what an entry says holds, and what it lacks its config says, if
// that is of the same image.
func TestPlatformsFillIn(t *testing.T) {
	config := oci.Platform{OS: "windows", Architecture: "x86_64", OSVersion: "10.0.17763.1", OSFeatures: []string{"f"}}
	tests := []struct{ entry, want string }{
		{"-", "windows/amd64:10.0.17763.1,f"},
		{"amd64", "windows/amd64:10.0.17763.1,f"},
		{"amd64:10.0.20348.7", "windows/amd64:10.0.20348.7,f"},
		{"arm64", "linux/arm64"},
		{"linux/amd64", "linux/amd64"},
	}
	for _, tt := range tests {
		res := merge(t, docker(t, tt.entry+"=aa"), nil, index.Options{Platforms: map[oci.Digest]oci.Platform{long("aa"): config}})
		if got := index.Name(res.Changes[0].Platform); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.entry, got, tt.want)
		}
	}
}

func TestUnsaid(t *testing.T) {
	ix := docker(t, "linux/amd64=aa", "-=ab", "arm64=ac", "att:aa=ad", "unknown/unknown=ae")
	nested := list(t, oci.MediaTypeIndex, "", "-=ba")
	nested.Entries[0].MediaType = oci.MediaTypeIndex
	for _, tt := range []struct {
		ix   *index.Index
		want string
	}{{ix, "ab ac"}, {nested, ""}} {
		if got := digests(&index.Index{Entries: tt.ix.Unsaid()}); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// What is known of an entry by itself is what a merge takes it for.
func TestPlatformOf(t *testing.T) {
	config := map[oci.Digest]oci.Platform{long("aa"): {OS: "windows", Architecture: "x86_64"}}
	for entry, want := range map[string]string{
		"-": "windows/amd64", "amd64": "windows/amd64", "arm64": "linux/arm64", "linux/unknown": "linux/unknown",
		"unknown/unknown": "", "att:ab": "",
	} {
		ix := docker(t, entry+"=aa")
		p, ok := index.PlatformOf(ix.Entries[0], config)
		if ok != (want != "") || ok && index.Name(p) != want {
			t.Errorf("%s is %s, %t, want %q", entry, index.Name(p), ok, want)
		}
		var asked []string
		eligible := ix.Eligible(index.Options{Platforms: config, Eligible: func(p oci.Platform) bool {
			asked = append(asked, index.Name(p))
			return true
		}})
		if attests := entry == "att:ab"; eligible == attests || !attests && (asked[0] == "unknown") == ok {
			t.Errorf("%s is eligible: %t, after %q", entry, eligible, asked)
		}
	}
}
