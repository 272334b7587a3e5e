package dir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/oci"
)

// Whatever a folder's files say: no panic, no name that is none, and no file
// outside the folder is read.
func FuzzFolder(f *testing.F) {
	config := `{"rootfs":{"diff_ids":["` + string(base.DiffID) + `"]}}`
	f.Add(`{"a/b":{"1":"manifest.json"}}`, `[{"Config":"c.json","Layers":["l/layer.tar"],"RepoTags":["b:1"]}]`, config)
	f.Add(`{"a/b":{"1":"../secret"}}`, `[{"Config":"../secret","Layers":["../secret"],"RepoTags":["b:1"]}]`, config)
	f.Add(`{"":{"":""},"x":7,"y":{"z":[]}}`, `[{"Source":{"reference":"h.x/a/b:1","sizes":[1]}}]`, `{"rootfs":null}`)
	f.Add(``, `[{},{"RepoTags":["a:1","a:1"]}]`, `[]`)
	secret := `{"rootfs":{"diff_ids":[]},"secret":true}`
	f.Fuzz(func(t *testing.T, catalog, manifest, config string) {
		top := t.TempDir()
		folder := filepath.Join(top, "d")
		if err := os.MkdirAll(filepath.Join(folder, "l"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, secret, top, "secret")
		write(t, manifest, folder, "manifest.json")
		write(t, config, folder, "c.json")
		write(t, "a layer", folder, "l", "layer.tar")
		if catalog != "" {
			write(t, catalog, folder, "catalog.json")
		}
		u, err := backend.ParseURI("dir://" + folder)
		if err != nil {
			t.Fatal(err)
		}
		images, err := dir.Kind.Source(t.Context(), u, backend.Env{})
		if err != nil {
			return
		}
		defer images.Close()
		for item, err := range images.Discover(t.Context()) {
			if err != nil {
				return
			}
			if r := item.Ref; r.Repository != "" && !oci.ValidRepository(r.Repository) || r.Tag != "" && !oci.ValidTag(r.Tag) || r == (oci.Ref{}) {
				t.Errorf("the name %+v", r)
			}
			src, err := images.Source(t.Context(), item)
			if err != nil {
				t.Fatal(err)
			}
			d, raw, err := src.Resolve(t.Context(), item.Ref.Reference())
			if err != nil {
				continue
			}
			m, err := oci.ParseManifest(d.MediaType, raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range m.Blobs() {
				if got, err := fetch(t.Context(), src, b); err == nil && strings.Contains(string(got), `"secret":true`) && !strings.Contains(config, `"secret":true`) {
					t.Errorf("it gave away %q", got)
				}
			}
		}
	})
}
