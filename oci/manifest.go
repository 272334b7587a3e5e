package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Manifest is what this module needs of a manifest or index. The bytes it
// was read from are what is stored and sent.
type Manifest struct {
	MediaType    MediaType         `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *Descriptor       `json:"config"`
	Layers       []Descriptor      `json:"layers"`
	Manifests    []Descriptor      `json:"manifests"`
	Subject      *Descriptor       `json:"subject"`
	Annotations  map[string]string `json:"annotations"`

	SchemaVersion int `json:"schemaVersion"`

	Said MediaType `json:"-"` // the media type in the bytes; "" where they say none
}

// maxChildren bounds the descriptors of one manifest.
const maxChildren = 10_000

// ParseManifest reads a manifest or index that was served as mt ("" if the
// place doesn't say). MediaType of the result is the one that holds.
//
// It returns an error matching [ErrInvalid] for anything that two readers could
// understand in two ways: a key twice, data behind the end, layers and
// manifests together, a body that contradicts mt; and for malformed digests and
// sizes. Docker schema 1 is [ErrUnsupported], over 4 MiB is [ErrTooLarge].
func ParseManifest(mt MediaType, raw []byte) (*Manifest, error) {
	if len(raw) > MaxManifestSize {
		return nil, fmt.Errorf("manifest of %d bytes: %w (limit %d)", len(raw), ErrTooLarge, MaxManifestSize)
	}
	if mt == MediaTypeDockerSchema1 || mt == MediaTypeDockerSigned1 {
		return nil, fmt.Errorf("docker schema 1 manifest: %w; push the image again with a current tool", ErrUnsupported)
	}
	if err := StrictJSON(raw); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	if err := m.settle(mt); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	for _, d := range m.children() {
		if err := ValidDigest(d.Digest); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("manifest: %w: size %d of %s", ErrInvalid, d.Size, d.Digest)
		}
	}
	return &m, nil
}

// settle finds the media type that holds and checks the shape against it.
func (m *Manifest) settle(mt MediaType) error {
	m.Said = m.MediaType
	if m.SchemaVersion != 2 {
		return fmt.Errorf("schemaVersion %d, want 2", m.SchemaVersion)
	}
	if IsManifestType(mt) && m.MediaType != "" && m.MediaType != mt {
		return fmt.Errorf("served as %s, but it says %s", mt, m.MediaType)
	}
	if m.MediaType == "" {
		m.MediaType = mt
	}
	isIndex := m.Manifests != nil
	if isIndex && (m.Layers != nil || m.Config != nil) {
		return errors.New("it has manifests and also layers or config")
	}
	if !IsManifestType(m.MediaType) {
		if m.MediaType != "" && !strings.HasSuffix(mt, "/json") && !strings.HasSuffix(mt, "octet-stream") {
			return fmt.Errorf("media type %q is no manifest's", m.MediaType)
		}
		m.MediaType = MediaTypeManifest
		if isIndex {
			m.MediaType = MediaTypeIndex
		}
	}
	switch {
	case IsIndexType(m.MediaType):
		if m.Layers != nil || m.Config != nil {
			return fmt.Errorf("an index with layers or config")
		}
	case isIndex:
		return fmt.Errorf("a manifest with manifests")
	case m.Config == nil:
		return errors.New("it has no config")
	}
	if n := len(m.Layers) + len(m.Manifests); n > maxChildren {
		return fmt.Errorf("%d descriptors, limit %d", n, maxChildren)
	}
	return nil
}

// IsIndex reports whether m is an index.
func (m *Manifest) IsIndex() bool { return IsIndexType(m.MediaType) }

// Blobs gives config and layers, config first. Of an index there are none.
func (m *Manifest) Blobs() []Descriptor {
	if m.Config == nil {
		return nil
	}
	return append([]Descriptor{*m.Config}, m.Layers...)
}

// Bytes gives the sum of the layers' sizes as they are stored; the largest
// number there is where they claim more.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, d := range m.Layers {
		if d.Size > math.MaxInt64-n {
			return math.MaxInt64
		}
		n += d.Size
	}
	return n
}

func (m *Manifest) children() []Descriptor {
	all := append(m.Blobs(), m.Manifests...)
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	return all
}
