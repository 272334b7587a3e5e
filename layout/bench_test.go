package layout_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// BenchmarkCommit names one more image in a layout of 100,000: what each write
// of index.json costs besides the disk.
func BenchmarkCommit(b *testing.B) {
	desc := func(i int) oci.Descriptor {
		return oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1234}
	}
	x := layout.NewIndex()
	for i := range 100_000 {
		if _, err := x.Set(fmt.Sprintf("quay.io/kolla/r%d:2025.1-%d", i%1876, i), desc(i)); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		y := x.Clone()
		if _, err := y.Set(fmt.Sprintf("quay.io/kolla/new:%d", i), desc(i)); err != nil {
			b.Fatal(err)
		}
		if _, err := y.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}
