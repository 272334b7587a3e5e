package oci_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

func TestChecks(t *testing.T) {
	body := []byte("twelve bytes")
	d := oci.Descriptor{Digest: digest.FromBytes(body), Size: int64(len(body))}
	verified := func() io.ReadCloser { return oci.Verify(io.NopCloser(bytes.NewReader(body)), d) }
	begun := verified()
	if _, err := begun.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		r    io.Reader
		d    oci.Digest
		want bool
	}{
		{"verified", verified(), d.Digest, true},
		{"for another digest", verified(), digest.FromString("x"), false},
		{"for none", verified(), "", false},
		{"its rest", begun, d.Digest, false},
		{"in a wrapper that doesn't say so", struct{ io.Reader }{verified()}, d.Digest, false},
		{"plain", bytes.NewReader(body), d.Digest, false},
	}
	for _, tt := range tests {
		if got := oci.Checks(tt.r, tt.d); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
