package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// Limits of what is kept in memory of a stream.
const (
	headSize     = 512                 // enough to know a tar
	maxDocument  = oci.MaxManifestSize // of one JSON file
	maxDocuments = 4 * maxDocument     // of all that may be the image's config or manifest
)

// parts knows which parts an image has and which of them came.
type parts struct {
	id     oci.Digest // of the config, or of the manifest
	want   oci.Digest // of the manifest, if the daemon keeps it
	order  []oci.Digest
	layers map[oci.Digest]bool // diffIDs; true once known to have come
	blobs  map[oci.Digest]bool // layers that came, as they are stored
	vague  int                 // layers that came of which nobody knows the diffID

	config    *document  // given
	configs   []document // that list the image's layers
	manifests []document // that may be the image's
	held      int        // bytes of both
	other     bool       // the ID is not the config's digest
}

// A document is a JSON file out of a stream.
type document struct {
	oci.Descriptor
	raw      []byte
	manifest *oci.Manifest // nil of a config
}

func newParts(is *inspection) *parts {
	p := &parts{id: is.ID, want: is.ID, order: is.RootFS.Layers, layers: map[oci.Digest]bool{}, blobs: map[oci.Digest]bool{}, other: is.kept()}
	if is.kept() {
		p.want = is.manifest().Digest
	}
	for _, d := range p.order {
		p.layers[d] = false
	}
	return p
}

// isText tells JSON from what layers are: tars, compressed or not.
func isText(head []byte) bool {
	isTar := len(head) >= 262 && string(head[257:262]) == "ustar"
	first := bytes.TrimLeft(head, " \t\r\n")
	return !isTar && len(first) > 0 && (first[0] == '{' || first[0] == '[') && !bytes.ContainsRune(head, 0)
}

// isLayer reports whether the member name, which isn't text, is one: it is called
// so, or by the digest of one.
func (p *parts) isLayer(name string, named oci.Digest) bool {
	if _, ok := p.layers[named]; ok {
		return true
	}
	if strings.HasPrefix(path.Clean(name), "blobs/") {
		m := p.kept()
		return named != "" && (m == nil || slices.ContainsFunc(m.manifest.Layers, func(d oci.Descriptor) bool { return d.Digest == named }))
	}
	return path.Base(name) == "layer.tar"
}

// kept gives the manifest that the daemon keeps, nil if it hasn't come.
func (p *parts) kept() *document {
	for i := range p.manifests {
		if p.manifests[i].Digest == p.want {
			return &p.manifests[i]
		}
	}
	return nil
}

// add keeps raw, which has digest dgst, if it may be the image's config or manifest.
func (p *parts) add(raw []byte, dgst oci.Digest) error {
	var d struct {
		RootFS *rootFS           `json:"rootfs"`
		Layers []json.RawMessage `json:"layers"`
	}
	if json.Unmarshal(raw, &d) != nil {
		return nil // a list, or what is JSON only at its head
	}
	doc := document{oci.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: dgst, Size: int64(len(raw))}, raw, nil}
	p.other = p.other || d.RootFS == nil && dgst == p.id
	switch {
	case d.RootFS != nil && slices.Equal(d.RootFS.DiffIDs, p.order):
		p.configs = append(p.configs, doc)
	case d.RootFS == nil && len(d.Layers) == len(p.order):
		m, err := oci.ParseManifest("", raw)
		if err != nil || m.IsIndex() || m.Config == nil {
			return nil //nolint:nilerr // it is no manifest, so none of ours
		}
		doc.MediaType, doc.manifest = m.MediaType, m
		p.manifests = append(p.manifests, doc)
	default:
		return nil
	}
	if p.held += len(raw); p.held > maxDocuments {
		return fmt.Errorf("over %d MiB of configs and manifests: %w", maxDocuments>>20, oci.ErrTooLarge)
	}
	return nil
}

// choose gives the config if it is among those that came; at the end also one
// that only its layers speak for, where the ID says nothing of it.
func (p *parts) choose(end bool) *document {
	if c := p.withDigest(p.id); c != nil {
		return c
	}
	if m := p.kept(); m != nil {
		if c := p.withDigest(m.manifest.Config.Digest); c != nil {
			c.MediaType = m.manifest.Config.MediaType
			return c
		}
	}
	if end && p.other && len(p.configs) == 1 {
		return &p.configs[0]
	}
	return nil
}

func (p *parts) withDigest(d oci.Digest) *document {
	for i := range p.configs {
		if p.configs[i].Digest == d {
			return &p.configs[i]
		}
	}
	return nil
}

// manifest gives the manifest of the image, nil if none came that says what was
// given. Docker's older store makes one up for each stream: that is none.
func (p *parts) manifest() *document {
	for i, m := range p.manifests {
		if m.manifest.Config.Digest == p.config.Digest && p.want != p.config.Digest && p.holds(m.manifest) {
			return &p.manifests[i]
		}
	}
	return nil
}

func (p *parts) holds(m *oci.Manifest) bool {
	for _, d := range m.Layers {
		if !p.blobs[d.Digest] {
			return false
		}
	}
	return true
}

// missing gives a layer that didn't come, "" if all did.
func (p *parts) missing() oci.Digest {
	if p.manifest() != nil {
		return ""
	}
	left := p.vague
	for _, d := range slices.Sorted(maps.Keys(p.layers)) {
		if p.layers[d] {
			continue
		}
		if left == 0 {
			return d
		}
		left--
	}
	return ""
}
