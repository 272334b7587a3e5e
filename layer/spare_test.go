package layer_test

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// TestSpare: what is spared is "", and all else is as without.
func TestSpare(t *testing.T) {
	plain := pack(t, dir("etc/"), reg("etc/motd", "hello"), reg("etc/big", strings.Repeat("0123456789", 30_000)))
	owner := edit(func(h *tar.Header) { h.Uid = 7 })
	for _, tt := range []struct {
		name    string
		filter  oci.EntryFilter
		changes bool
	}{{"nothing", filter{}, false}, {"all", owner, true}, {"the last", edit(func(h *tar.Header) {
		if h.Name == "etc/big" {
			h.Uid = 7
		}
	}), true}} {
		for spare := range layer.SpareBlob | layer.SpareTar | layer.SpareSource + 1 {
			want, raw, _, err := run(t, gz(t, plain), layer.PassOptions{Codec: layer.Gzip}, tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			got, err := layer.NewPass(oci.Descriptor{}, []oci.EntryFilter{tt.filter}, layer.PassOptions{Codec: layer.Gzip, Spare: spare}).Run(t.Context(), &out, bytes.NewReader(gz(t, plain)))
			if err != nil {
				t.Fatal(err)
			}
			if spare&layer.SpareBlob != 0 {
				want.Desc.Digest = ""
			}
			if spare&layer.SpareTar != 0 {
				want.DiffID = ""
			}
			if spare&layer.SpareSource != 0 && tt.changes {
				want.Source.DiffID = ""
			}
			if got.Desc.Digest != want.Desc.Digest || got.Desc.Size != want.Desc.Size || got.DiffID != want.DiffID || got.TarSize != want.TarSize ||
				got.Source != want.Source || got.Unchanged == tt.changes || !bytes.Equal(decoded(t, out.Bytes()), raw) {
				t.Errorf("%s changed, %b spared: got %+v, want %+v", tt.name, spare, got, want)
			}
		}
	}
	if got, err := layer.Walk(t.Context(), bytes.NewReader(gz(t, plain)), layer.Options{NoDiffID: true}, nil); err != nil || got.DiffID != "" || got.Size != int64(len(plain)) {
		t.Errorf("a walk without diffID: %+v, %v", got, err)
	}
}
