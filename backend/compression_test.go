package backend_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

func TestCompression(t *testing.T) {
	tests := []struct{ uri, env, want string }{
		{"ocidir://x", "", ""},
		{"ocidir://x", "zstd", "zstd"},
		{"ocidir://x?compression=keep", "zstd", "keep"},
		{"ocidir://x?compression=none", "", "none"},
		{"ocidir://x?compression=GZip", "", "gzip"},
		{"ocidir://x?compression=gzip&compression=zstd", "", "zstd"},
		{"ocidir://x?compression=lz4", "", "option compression=lz4"},
		{"ocidir://x", "xz", "compression xz"},
	}
	for _, tt := range tests {
		u, err := backend.ParseURI(tt.uri)
		if err != nil {
			t.Fatal(err)
		}
		got, err := backend.Compression(u, backend.Env{Compression: tt.env})
		if strings.Contains(tt.want, " ") {
			if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "keep, gzip, zstd or none") {
				t.Errorf("%s, %q: %v, want an error with %q", tt.uri, tt.env, err, tt.want)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s, %q: %q, %v, want %q", tt.uri, tt.env, got, err, tt.want)
		}
		if err := backend.NoCompression(u); (err != nil) != strings.Contains(tt.uri, "?") || err != nil && !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%s as a source: %v", tt.uri, err)
		}
	}
}
