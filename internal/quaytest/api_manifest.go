package quaytest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// emptyBlob is what Quay gives to layers of the history that have no content.
const emptyBlob = oci.Digest("sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4")

// getManifest is GET /repository/R/manifest/D: section 4.3 of the contract.
func (c *apiCall) getManifest() answer {
	r, a, allowed := c.readable()
	if !allowed {
		return a
	}
	d := oci.Digest(c.args[0])
	m := c.s.manifest(r, d)
	if m == nil || !c.s.reachable(r, d, false) {
		return c.notFound()
	}
	_, raw, err := c.s.rawManifest(r, d)
	if err != nil {
		return c.notFound()
	}
	body := map[string]any{
		"digest": d, "is_manifest_list": m.IsList, "manifest_data": string(raw),
		"config_media_type": nil, "layers_compressed_size": m.layersSize(), "layers": nil,
	}
	if !m.IsList {
		body["config_media_type"] = m.Config.MediaType
		body["layers"] = c.s.layers(r, m)
	}
	return ok(body)
}

// A step is one entry of a config's history.
type step struct {
	Created    *time.Time `json:"created"`
	CreatedBy  string     `json:"created_by"`
	Comment    string     `json:"comment"`
	Author     string     `json:"author"`
	EmptyLayer bool       `json:"empty_layer"`
}

// history is the steps of m's config, one for each layer if it has none.
func (s *Server) history(r *repository, m *manifest) []step {
	var config struct {
		History []step `json:"history"`
	}
	if m.isImage() {
		raw, err := s.smallBlob(r, m.Config.Digest)
		if err == nil && json.Unmarshal(raw, &config) != nil {
			config.History = nil
		}
	}
	full := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			full++
		}
	}
	if full != len(m.Layers) {
		return make([]step, len(m.Layers))
	}
	return config.History
}

// layers lists m's layers, base first, empty ones included.
func (s *Server) layers(r *repository, m *manifest) []map[string]any {
	rows := []map[string]any{}
	next := 0
	for i, h := range s.history(r, m) {
		row := map[string]any{
			"index": i, "compressed_size": int64(32), "is_remote": false, "urls": nil, "command": nil,
			"comment": h.Comment, "author": h.Author, "blob_digest": emptyBlob, "created_datetime": nil,
		}
		if h.CreatedBy != "" {
			row["command"] = strings.Fields(h.CreatedBy)
		}
		if h.Created != nil {
			row["created_datetime"] = rfc2822(*h.Created)
		}
		if !h.EmptyLayer {
			l := m.Layers[next]
			next++
			row["compressed_size"], row["blob_digest"] = l.Size, l.Digest
			if len(l.URLs) > 0 {
				row["is_remote"], row["urls"] = true, l.URLs
			}
		}
		rows = append(rows, row)
	}
	return rows
}
