package oci_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestGrammar(t *testing.T) {
	long := strings.Repeat("a", 128)
	for _, tt := range []struct {
		name  string
		valid func(string) bool
		good  []string
		bad   []string
	}{
		{"repository", oci.ValidRepository, []string{"a", "a/b/c", "a--b", "a-", "0._-", long}, []string{"", "/", "a/", "/a", "a//b", ".a", "_a", "-a", "a/.b", "A", "a b", "\u00e4", "a\n", "a/..", long + long}},
		{"tag", oci.ValidTag, []string{"1", "_", "a.-B", long}, []string{"", ".", "-a", "a:b", "a/b", "a\n", "\u00e4", "a" + long}},
		{"host", oci.ValidHost, []string{"a", "quay.io", "a_b:5000", "[::1]", "[::1]:5000", "A-1.x"}, []string{"", "-a", "a-", "a..b", ".a", "a/b", "a:0", "a:x", "[x]", "a\n", "\u00e4", strings.Repeat("a.", 127)}},
		{"digest", func(s string) bool { return oci.IsDigest(s) && oci.ValidDigest(oci.Digest(s)) == nil },
			[]string{"sha256:" + hex64, "sha512:" + hex64 + hex64}, []string{"", hex64, "sha256:", "sha256:" + hex64[1:], "sha256:" + hex64 + "0", "sha512:" + hex64, "sha256:" + strings.ToUpper(hex64), "md5:" + hex64, "sha256:../" + hex64[3:]}},
	} {
		for _, s := range tt.good {
			if !tt.valid(s) {
				t.Errorf("%s %q is refused", tt.name, s)
			}
		}
		for _, s := range tt.bad {
			if tt.valid(s) {
				t.Errorf("%s %q is taken", tt.name, s)
			}
		}
	}
	if err := oci.ValidDigest("sha256:x"); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v, want invalid", err)
	}
}
