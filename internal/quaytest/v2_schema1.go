package quaytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// sendSchema1 sends an image as an unsigned docker schema 1 manifest, made on
// the spot: newest layer first, one v1Compatibility for each.
func (c *v2Call) sendSchema1(m *manifest) {
	var config struct {
		Architecture string `json:"architecture"`
	}
	raw, err := c.s.smallBlob(c.repo, m.Config.Digest)
	if err != nil || json.Unmarshal(raw, &config) != nil {
		manifestUnknown().write(c.w)
		return
	}
	fsLayers, history, next, parent := []any{}, []any{}, 0, ""
	for i, h := range c.s.history(c.repo, m) {
		blob := emptyBlob
		if !h.EmptyLayer {
			blob = m.Layers[next].Digest
			next++
		}
		id := digest.FromString(fmt.Sprint(i, blob, parent)).Encoded()
		v1 := map[string]any{"id": id, "created": h.Created, "container_config": map[string]any{"Cmd": []string{h.CreatedBy}}}
		if parent != "" {
			v1["parent"] = parent
		}
		parent = id
		text, err := json.Marshal(v1)
		if err != nil {
			panic(err) // of our own types
		}
		fsLayers = append(fsLayers, map[string]any{"blobSum": blob})
		history = append(history, map[string]any{"v1Compatibility": string(text)})
	}
	slices.Reverse(fsLayers)
	slices.Reverse(history)
	body, err := json.Marshal(map[string]any{
		"schemaVersion": 1, "name": c.full, "tag": c.path.ref, "architecture": config.Architecture, "fsLayers": fsLayers, "history": history,
	})
	if err != nil {
		panic(err)
	}
	h := c.w.Header()
	h.Set("Content-Type", oci.MediaTypeDockerSchema1)
	h.Set("Docker-Content-Digest", string(digest.FromBytes(body)))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body) // a client that went away misses nothing
	}
}
