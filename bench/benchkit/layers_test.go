package main

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestSeedMakesTheSameBytes: figures of two times are of the same content.
func TestSeedMakesTheSameBytes(t *testing.T) {
	g := newGenerator(42, 1)
	jobs := g.manyTiny()
	made, err := jobs[7].build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := made.(v1.Image).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.String(), "sha256:d8dda55582138efe6f8159a34f1c07c3b38056c3baf3d106a4117497b45609e3"; got != want {
		t.Errorf("image %s, want %s", got, want)
	}
}
