package daemon_test

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// FuzzStream is that whatever a daemon sends, an image that comes whole is the
// one that it spoke of.
func FuzzStream(f *testing.F) {
	for i, form := range forms {
		f.Add(byte(i), loadForm(f, form).save)
	}
	img := small(f)
	f.Fuzz(func(t *testing.T, which byte, raw []byte) {
		r := &replay{form: loadForm(t, forms[int(which)%len(forms)])}
		r.save = raw
		src := openSource(t, serve(t, r))
		got := map[oci.Digest]bool{}
		var config []byte
		for b, err := range src.(oci.Streamer).Stream(t.Context(), "") {
			if err != nil {
				return
			}
			raw, err := readBlob(t, b)
			if err != nil {
				return
			}
			switch {
			case b.Layer == oci.NoLayer && !oci.IsManifestType(b.Desc.MediaType):
				config = raw
			case b.Layer == oci.NoLayer:
				if m, err := oci.ParseManifest(b.Desc.MediaType, raw); err != nil || m.Config.Digest != digest.FromBytes(config) {
					t.Errorf("manifest %s: %v", raw, err)
				}
			case b.Desc.MediaType != ocispec.MediaTypeImageLayer:
				return // compressed: nobody but the one who decompresses it can tell
			default:
				if b.DiffID != "" && b.Desc.Digest == b.DiffID && digest.FromBytes(raw) != b.DiffID {
					t.Errorf("a layer is not %s", b.DiffID)
				}
				got[digest.FromBytes(raw)] = true
			}
		}
		if !bytes.Equal(config, img.config.Bytes) {
			t.Errorf("config %s", config)
		}
		for _, l := range img.layers {
			if !got[l.DiffID] {
				t.Errorf("layer %s is missing", l.DiffID)
			}
		}
	})
}
