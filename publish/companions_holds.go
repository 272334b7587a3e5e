package publish

import (
	"encoding/json"

	"github.com/quaymaster/quaymaster/oci"
)

// holds reports whether all that b's manifest refers to is in a's as well, each
// with its annotations: a signature of cosign's is in the annotations of a layer,
// and several of one payload differ in nothing else. So a may take b's place.
//
// The config doesn't count, since it only lists the layers, unless there are none.
// What can't be read, or is of another kind, holds nothing of another.
func holds(a, b Content) (bool, error) {
	have, err := parts(a)
	if err != nil {
		return false, err
	}
	want, err := parts(b)
	if err != nil {
		return false, nil //nolint:nilerr // what is there is no manifest: nobody knows what it is good for
	}
	for part := range want {
		if !have[part] {
			return false, nil
		}
	}
	return true, nil
}

// A part is one descriptor of a manifest.
type part struct {
	mediaType   oci.MediaType
	digest      oci.Digest
	annotations string // as JSON with sorted keys
}

func parts(c Content) (map[part]bool, error) {
	m, err := oci.ParseManifest(c.Desc.MediaType, c.Raw)
	if err != nil {
		return nil, err
	}
	all := append(m.Layers, m.Manifests...)
	if len(all) == 0 && m.Config != nil {
		all = []oci.Descriptor{*m.Config}
	}
	set := map[part]bool{}
	for _, d := range all {
		text := ""
		if len(d.Annotations) > 0 {
			raw, err := json.Marshal(d.Annotations)
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		set[part{d.MediaType, d.Digest, text}] = true
	}
	return set, nil
}
