package index

import (
	"fmt"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

// Wrap makes a list of one manifest, whose platform is p; the zero Platform says
// none. The list is of the manifest's family, or of Options.Type; Options.Style is how
// it is written. The error matches [oci.ErrInvalid] if manifest is of a list, or if a
// list of that type can't hold it.
func Wrap(manifest oci.Descriptor, p oci.Platform, opt Options) (*Index, error) {
	if !oci.IsManifestType(manifest.MediaType) || oci.IsIndexType(manifest.MediaType) {
		return nil, fmt.Errorf("%w: %s is %q, no single manifest", oci.ErrInvalid, manifest.Digest, manifest.MediaType)
	}
	d := oci.Descriptor{MediaType: manifest.MediaType, Digest: manifest.Digest, Size: manifest.Size}
	if p.OS != "" || p.Architecture != "" {
		d.Platform = &p
	}
	mt := oci.MediaTypeIndex
	if isDocker(d) {
		mt = oci.MediaTypeDockerList
	}
	base := &Index{Raw: jsonedit.Marshal(struct {
		SchemaVersion int           `json:"schemaVersion"`
		MediaType     oci.MediaType `json:"mediaType"`
		Manifests     []string      `json:"manifests"`
	}{2, mt, nil})}
	base.Desc.MediaType = mt
	m := maker{base: base, opt: opt, entries: []entry{{Descriptor: d, raw: jsonedit.Marshal(d)}}}
	out, err := m.make(nil)
	if err != nil {
		return nil, err
	}
	return &out.Index, nil
}
