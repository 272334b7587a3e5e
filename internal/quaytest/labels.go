package quaytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// A label is one label of a manifest.
type label struct {
	ID        string `json:"id"`
	Key       string `json:"key"`
	Value     string `json:"value"`
	Source    string `json:"source_type"` // "manifest" or "api"
	MediaType string `json:"media_type"`
}

// labels gives the labels of a manifest: those of its config, overlaid by its
// annotations, then those that the API added. Lists have none of their own.
func (s *Server) labels(r *repository, d oci.Digest) []label {
	m := s.manifest(r, d)
	if m == nil {
		return nil
	}
	var list []label
	values := s.manifestLabels(r, m)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		list = append(list, newLabel(d, k, values[k], "manifest", "text/plain"))
	}
	return append(list, r.Labels[d]...)
}

// newLabel makes a label whose ID looks like a UUID and is the same each time.
func newLabel(d oci.Digest, key, value, source, mediaType string) label {
	h := digest.FromString(string(d) + "\n" + key + "\n" + value + "\n" + source).Encoded()
	return label{fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:32]), key, value, source, mediaType}
}

func (s *Server) manifestLabels(r *repository, m *manifest) map[string]string {
	if m.IsList {
		return nil
	}
	labels := map[string]string{}
	if m.isImage() {
		var config struct {
			Config struct{ Labels map[string]string } `json:"config"`
		}
		raw, err := s.smallBlob(r, m.Config.Digest)
		if err == nil && json.Unmarshal(raw, &config) == nil {
			maps.Copy(labels, config.Config.Labels)
		}
	}
	maps.Copy(labels, m.Annotations)
	delete(labels, "")
	return labels
}

// labelledEnd is when a tag that is set to d now ends, by its label
// quay.expires-after. A list ends if all its children end alike.
func (s *Server) labelledEnd(r *repository, d oci.Digest) time.Time {
	after, ok := s.expiresAfter(r, d)
	if !ok {
		return time.Time{}
	}
	return s.now().Add(after)
}

func (s *Server) expiresAfter(r *repository, d oci.Digest) (time.Duration, bool) {
	m := s.manifest(r, d)
	switch {
	case m == nil:
		return 0, false
	case !m.IsList:
		return parseDuration(s.manifestLabels(r, m)["quay.expires-after"])
	case len(m.Children) == 0:
		return 0, false
	}
	var common time.Duration
	for i, c := range m.Children {
		child := s.manifest(r, c.Digest)
		if child == nil || child.IsList {
			return 0, false
		}
		after, ok := s.expiresAfter(r, c.Digest)
		if !ok || i > 0 && after != common {
			return 0, false
		}
		common = after
	}
	return common, true
}
