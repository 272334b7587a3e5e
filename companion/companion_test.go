package companion_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

var hex = strings.Repeat("0123456789abcdef", 4)

func TestParseTag(t *testing.T) {
	tests := []struct {
		tag  string
		kind companion.Kind // "" for none
	}{
		{"sha256-" + hex + ".sig", companion.Signature},
		{"sha256-" + hex + ".att", companion.Attestation},
		{"sha256-" + hex + ".sbom", companion.SBOM},
		{"sha256-" + hex, ""}, // the referrers' tag
		{"sha256-" + hex + ".sigs", ""},
		{"sha256-" + hex + ".SIG", ""},
		{"sha256-" + strings.ToUpper(hex) + ".sig", ""},
		{"sha256-" + hex[1:] + ".sig", ""},
		{"sha256-" + hex + "0.sig", ""},
		{"sha256:" + hex + ".sig", ""},
		{"sha512-" + hex + hex + ".sig", ""},
		{"x-sha256-" + hex + ".sig", ""},
		{"sha256-.sig", ""},
		{"latest", ""},
		{"", ""},
	}
	for _, tt := range tests {
		d, kind, ok := companion.ParseTag(tt.tag)
		if ok != (tt.kind != "") || ok && (kind != tt.kind || d != oci.Digest("sha256:"+hex)) {
			t.Errorf("%q: got %s %q %t, want %q", tt.tag, d, kind, ok, tt.kind)
		}
	}
}

func TestTags(t *testing.T) {
	d := oci.Digest("sha256:" + hex)
	tags := companion.Tags(d)
	if want := []string{"sha256-" + hex + ".sig", "sha256-" + hex + ".att", "sha256-" + hex + ".sbom"}; !slices.Equal(tags, want) {
		t.Errorf("got %q, want %q", tags, want)
	}
	for _, tag := range tags {
		if back, _, ok := companion.ParseTag(tag); !ok || back != d {
			t.Errorf("%q is about %s, want %s", tag, back, d)
		}
	}
	for _, d := range []oci.Digest{"", "sha512:" + oci.Digest(hex+hex), "sha256:" + oci.Digest(strings.ToUpper(hex)), "sha256:../x"} {
		if tags := companion.Tags(d); tags != nil {
			t.Errorf("%q: got %q, want none", d, tags)
		}
	}
}

func FuzzParseTag(f *testing.F) {
	f.Add("sha256-" + hex + ".sig")
	f.Add("sha256-" + hex)
	f.Fuzz(func(t *testing.T, tag string) {
		d, _, ok := companion.ParseTag(tag)
		if ok && (oci.ValidDigest(d) != nil || !oci.ValidTag(tag) || !slices.Contains(companion.Tags(d), tag)) {
			t.Errorf("%q is about %q, whose tags are %q", tag, d, companion.Tags(d))
		}
	})
}
