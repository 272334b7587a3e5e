package dir

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// Limits of what is read into memory.
const (
	maxCatalogSize  = 64 << 20
	maxManifestSize = 4 << 20
	maxConfigSize   = 16 << 20
)

// A manifest is the one object in a manifest file.
type manifest struct {
	Config    string
	ImageName string `json:",omitempty"` // the full image name, with unique names only
	Layers    []string
	RepoTags  []string
	Source    *origin `json:",omitempty"` // nil: written by another program
}

// An origin is what an image was where it came from.
type origin struct {
	Reference string        `json:"reference"`
	Digest    oci.Digest    `json:"digest"`
	Platform  *oci.Platform `json:"platform,omitempty"` // chosen of the index with that digest
	Filters   string        `json:"filters,omitempty"`  // that were applied: [oci.AnnotationFilters]
	Sizes     []int64       `json:"sizes"`              // bytes of each layer.tar
}

func (m manifest) encode() ([]byte, error) { return pythonJSON([]manifest{m}) }

// readManifest reads a manifest file. Errors match [oci.ErrInvalid] or are of
// the file system.
func readManifest(root *os.Root, name string) (manifest, error) {
	if err := safepath.Component(name); err != nil {
		return manifest{}, err
	}
	raw, _, err := safepath.ReadFile(root, name, maxManifestSize)
	if err != nil {
		return manifest{}, err
	}
	var list []manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return manifest{}, fmt.Errorf("%s: %w: %w", name, oci.ErrInvalid, err)
	}
	if len(list) != 1 {
		return manifest{}, fmt.Errorf("%s: %w: it lists %d images, want 1", name, oci.ErrInvalid, len(list))
	}
	return list[0], nil
}

// sizes maps each layer file to its bytes, as its manifest vouches for them;
// nothing of a manifest that another program wrote.
func (m manifest) sizes() map[string]int64 {
	if m.Source == nil || len(m.Source.Sizes) != len(m.Layers) {
		return nil
	}
	sizes := map[string]int64{}
	for i, name := range m.Layers {
		sizes[name] = m.Source.Sizes[i]
	}
	return sizes
}

// An id is how the catalog calls an image.
type id struct{ image, tag string }

func idOf(ref oci.Ref) id {
	if ref.Tag == "" {
		return id{ref.Repository, ref.Digest.Encoded()}
	}
	return id{ref.Repository, ref.Tag}
}

func (i id) String() string { return i.image + ":" + i.tag }

// repoTag is what docker load calls the image: occystrap takes the last part of
// its name.
func (i id) repoTag() string { return path.Base(i.image) + ":" + i.tag }

// isOf reports whether m is the image i, as far as it says.
func (m manifest) isOf(i id) bool {
	if m.Source != nil {
		ref, err := oci.ParseRef(m.Source.Reference, "localhost")
		return err == nil && idOf(ref) == i
	}
	return (m.ImageName == "" || m.ImageName == i.image) && len(m.RepoTags) == 1 && m.RepoTags[0] == i.repoTag()
}

// says gives how m calls its image, for messages.
func (m manifest) says() string {
	if m.Source != nil {
		return m.Source.Reference
	}
	return strings.Join(m.RepoTags, ", ")
}

// configPath and layerPath give the files of a config and a layer. d must have
// passed [oci.ValidDigest].
func configPath(d oci.Digest) string { return d.Encoded() + ".json" }

func layerPath(d oci.Digest) string { return d.Encoded() + "/layer.tar" }
