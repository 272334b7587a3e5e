package quaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"

	"cuelabs.dev/go/oci/ociregistry"

	"github.com/quaymaster/quaymaster/oci"
)

// A manifest is what the state must know of one in the store.
type manifest struct {
	Desc         oci.Descriptor
	IsList       bool
	Children     []oci.Descriptor
	Config       *oci.Descriptor
	Layers       []oci.Descriptor
	Subject      *oci.Descriptor
	ArtifactType string
	Annotations  map[string]string
}

// layersSize is the sum of the compressed layers.
func (m *manifest) layersSize() (n int64) {
	for _, l := range m.Layers {
		n += l.Size
	}
	return n
}

// isImage reports whether m's config is an image's.
func (m *manifest) isImage() bool {
	return m.Config != nil && (m.Config.MediaType == "application/vnd.oci.image.config.v1+json" ||
		m.Config.MediaType == "application/vnd.docker.container.image.v1+json")
}

// readManifest understands raw, which was stored as desc.
func readManifest(desc oci.Descriptor, raw []byte) (*manifest, error) {
	var w struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []oci.Descriptor  `json:"manifests"`
		Config        *oci.Descriptor   `json:"config"`
		Layers        []oci.Descriptor  `json:"layers"`
		Subject       *oci.Descriptor   `json:"subject"`
		ArtifactType  string            `json:"artifactType"`
		Annotations   map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, err
	}
	if w.SchemaVersion != 2 {
		return nil, fmt.Errorf("schemaVersion is %d, not 2", w.SchemaVersion)
	}
	if w.MediaType != "" && w.MediaType != desc.MediaType {
		return nil, fmt.Errorf("mediaType %s was sent as %s", w.MediaType, desc.MediaType)
	}
	m := &manifest{Desc: desc, IsList: oci.IsIndexType(desc.MediaType), Subject: w.Subject, ArtifactType: w.ArtifactType, Annotations: w.Annotations}
	if m.IsList {
		if w.Manifests == nil {
			return nil, fmt.Errorf("'manifests' is a required property")
		}
		m.Children = w.Manifests
		return m, checkDescriptors(m.Children)
	}
	if w.Config == nil || w.Layers == nil {
		return nil, fmt.Errorf("'config' and 'layers' are required properties")
	}
	m.Config, m.Layers = w.Config, w.Layers
	return m, checkDescriptors(append([]oci.Descriptor{*m.Config}, m.Layers...))
}

// mediaTypeRE is all that Quay asks of a descriptor's type.
var mediaTypeRE = regexp.MustCompile(`^\w+/[-.\w]+`)

func checkDescriptors(list []oci.Descriptor) error {
	for _, d := range list {
		if !mediaTypeRE.MatchString(d.MediaType) || d.Size < 0 {
			return fmt.Errorf("a descriptor needs mediaType, size and digest")
		}
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("digest %q: %w", d.Digest, err)
		}
		if p := d.Platform; p != nil && (p.OS == "" || p.Architecture == "") {
			return fmt.Errorf("'architecture' and 'os' are required properties")
		}
	}
	return nil
}

// manifestKey is a manifest of one repository.
type manifestKey struct {
	repository int64
	digest     oci.Digest
}

// manifest gives what r's store holds under d, nil if it holds nothing.
// Answers are kept: what a digest names doesn't change.
func (s *Server) manifest(r *repository, d oci.Digest) *manifest {
	key := manifestKey{r.ID, d}
	if m, ok := s.manifests.Load(key); ok {
		return m.(*manifest)
	}
	desc, raw, err := s.rawManifest(r, d)
	if err != nil {
		return nil
	}
	m, err := readManifest(desc, raw)
	if err != nil {
		return nil
	}
	s.manifests.Store(key, m)
	return m
}

func (s *Server) rawManifest(r *repository, d oci.Digest) (oci.Descriptor, []byte, error) {
	rd, err := s.store.GetManifest(context.Background(), r.storeName(), d)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return readAll(rd)
}

// smallBlob reads a blob of at most 4 MiB, such as a config.
func (s *Server) smallBlob(r *repository, d oci.Digest) ([]byte, error) {
	rd, err := s.store.GetBlob(context.Background(), r.storeName(), d)
	if err != nil {
		return nil, err
	}
	_, raw, err := readAll(rd)
	return raw, err
}

func readAll(rd ociregistry.BlobReader) (oci.Descriptor, []byte, error) {
	defer rd.Close()
	raw, err := io.ReadAll(io.LimitReader(rd, oci.MaxManifestSize))
	return rd.Descriptor(), raw, err
}
