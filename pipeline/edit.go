package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// An edit is an image on its way through filters, or to other compression.
type edit struct {
	node
	config  []byte                     // as it was
	fields  map[string]json.RawMessage // of config, as they were
	diffIDs []oci.Digest               // as they were
	img     oci.Image                  // what the image filters made of it
}

// openEdit reads n's config and lets the image filters edit it.
func (c *copier) openEdit(ctx context.Context, n node) (*edit, error) {
	raw, err := c.rawConfig(ctx, *n.m.Config)
	if err != nil {
		return nil, oci.Wrap(err, "read config", c.report.Reference, oci.Descriptor{})
	}
	e := &edit{node: n, config: raw}
	var cfg struct {
		oci.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	err = json.Unmarshal(raw, &e.fields)
	if err == nil {
		err = json.Unmarshal(raw, &cfg)
	}
	if err != nil {
		return nil, oci.Wrap(fmt.Errorf("config %s: %w: %w", n.m.Config.Digest, oci.ErrInvalid, err), "read config", c.report.Reference, oci.Descriptor{})
	}
	if e.diffIDs = cfg.RootFS.DiffIDs; len(c.opt.Filters.Entries) > 0 || c.Traits.Raw || c.recoded(n) {
		err := checkDiffIDs(e.diffIDs, n.m.Layers)
		if err == nil && oci.IsSynthetic(n.Descriptor) {
			err = checkSynthetic(n.m, e.diffIDs)
		}
		if err != nil {
			return nil, oci.Wrap(err, "read config", c.report.Reference, oci.Descriptor{})
		}
	}
	e.img = oci.Image{
		Ref: c.Item.Ref, Platform: cfg.Platform, Layers: slices.Clone(n.m.Layers),
		Config: maps.Clone(e.fields), Annotations: maps.Clone(n.m.Annotations),
	}
	if e.img.Annotations == nil {
		e.img.Annotations = map[string]string{}
	}
	return e, oci.Wrap(c.opt.Filters.Edit(ctx, &e.img), "filter image", c.report.Reference, oci.Descriptor{})
}

// A result is what became of one layer of an image: the descriptor that its
// manifest is to have, and the diffID.
type result struct {
	desc   oci.Descriptor
	diffID oci.Digest
	made   *Made // nil if it went through no filter
}

// close gives the config and manifest with what became of the layers. Where
// nothing did, they are the same bytes.
func (e *edit) close(layers []result) (config []byte, n node, err error) {
	if config, err = e.newConfig(layers); err != nil {
		return nil, node{}, fmt.Errorf("config %s: %w", e.m.Config.Digest, err)
	}
	raw, err := e.newManifest(config, layers)
	if err != nil {
		return nil, node{}, err
	}
	d := written(e.Descriptor)
	if bytes.Equal(raw, e.raw) {
		return config, node{d, e.raw, e.m}, nil
	}
	if outgrowsDocker(e.m, layers) {
		d.MediaType = oci.MediaTypeManifest
		if raw, err = toOCI(raw); err != nil {
			return nil, node{}, err
		}
	}
	d.Digest, d.Size = d.Digest.Algorithm().FromBytes(raw), int64(len(raw))
	n, err = parse(d, raw)
	return config, n, err
}

func (e *edit) newConfig(layers []result) ([]byte, error) {
	ids, changed := slices.Clone(e.diffIDs), false
	for i, l := range layers {
		if l.diffID != "" && l.diffID != ids[i] {
			ids[i], changed = l.diffID, true
		}
	}
	if changed {
		root, err := jsonedit.Set(e.img.Config["rootfs"], jsonedit.Change{Key: "diff_ids", Value: jsonedit.Marshal(ids)})
		if err != nil {
			return nil, err
		}
		e.img.Config["rootfs"] = root
	}
	var changes []jsonedit.Change
	for _, key := range slices.Sorted(maps.Keys(e.fields)) {
		if now, ok := e.img.Config[key]; !ok || !bytes.Equal(now, e.fields[key]) {
			changes = append(changes, jsonedit.Change{Key: key, Value: now})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(e.img.Config)) {
		if _, ok := e.fields[key]; !ok {
			changes = append(changes, jsonedit.Change{Key: key, Value: e.img.Config[key]})
		}
	}
	return jsonedit.Set(e.config, changes...)
}

func (e *edit) newManifest(config []byte, layers []result) ([]byte, error) {
	raw := e.raw
	i := -1
	raw, err := editEntries(raw, "layers", func(_ oci.Descriptor, entry json.RawMessage) (json.RawMessage, error) {
		i++
		if sameBlob(layers[i].desc, e.m.Layers[i]) {
			return entry, nil
		}
		return setBlob(entry, layers[i].desc)
	})
	if err != nil {
		return nil, err
	}
	var changes []jsonedit.Change
	if !bytes.Equal(config, e.config) {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		d := *e.m.Config
		d.Digest, d.Size = d.Digest.Algorithm().FromBytes(config), int64(len(config))
		value, err := setBlob(m["config"], d)
		if err != nil {
			return nil, err
		}
		changes = append(changes, jsonedit.Change{Key: "config", Value: value})
	}
	if !maps.Equal(e.img.Annotations, e.m.Annotations) {
		var value json.RawMessage
		if len(e.img.Annotations) > 0 {
			value = jsonedit.Marshal(e.img.Annotations)
		}
		changes = append(changes, jsonedit.Change{Key: "annotations", Value: value})
	}
	return jsonedit.Set(raw, changes...)
}

func sameBlob(a, b oci.Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
}

// setBlob gives the descriptor entry for the blob d. What it says of the bytes
// that it was of goes.
func setBlob(entry json.RawMessage, d oci.Descriptor) (json.RawMessage, error) {
	var was oci.Descriptor
	if err := json.Unmarshal(entry, &was); err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	changes := []jsonedit.Change{
		{Key: "digest", Value: jsonedit.Marshal(d.Digest)}, {Key: "size", Value: jsonedit.Marshal(d.Size)},
		{Key: "data"}, {Key: "urls"},
	}
	if d.MediaType != was.MediaType {
		changes = append(changes, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(d.MediaType)})
	}
	kept := maps.Clone(was.Annotations)
	maps.DeleteFunc(kept, func(k, _ string) bool { return layer.IsBound(k) })
	if len(kept) < len(was.Annotations) {
		c := jsonedit.Change{Key: "annotations"}
		if len(kept) > 0 {
			c.Value = jsonedit.Marshal(kept)
		}
		changes = append(changes, c)
	}
	return jsonedit.Set(entry, changes...)
}

// newIndex gives the index n with its children as they are now. Entries in gone
// are left out.
func newIndex(n node, now map[oci.Digest]oci.Descriptor, gone map[oci.Digest]bool) (node, error) {
	outgrown := false // a list of docker's, of images that are docker's no more
	raw, err := editEntries(n.raw, "manifests", func(d oci.Descriptor, entry json.RawMessage) (json.RawMessage, error) {
		child, ok := now[d.Digest]
		switch {
		case gone[d.Digest]:
			return nil, nil
		case !ok || child.Digest == d.Digest:
			return entry, nil
		}
		changes := []jsonedit.Change{
			{Key: "digest", Value: jsonedit.Marshal(child.Digest)}, {Key: "size", Value: jsonedit.Marshal(child.Size)}, {Key: "data"},
		}
		if d.MediaType != "" && d.MediaType != child.MediaType {
			changes = append(changes, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(child.MediaType)})
			outgrown = outgrown || n.MediaType == oci.MediaTypeDockerList
		}
		return jsonedit.Set(entry, changes...)
	})
	if err != nil || bytes.Equal(raw, n.raw) {
		return n, err
	}
	d := written(n.Descriptor)
	if outgrown {
		d.MediaType = oci.MediaTypeIndex
		if raw, err = toOCI(raw); err != nil {
			return node{}, err
		}
	}
	d.Digest, d.Size = d.Digest.Algorithm().FromBytes(raw), int64(len(raw))
	return parse(d, raw)
}

// untrue gives the attestations of n about images that are others now: what
// they say was said of another image.
func untrue(n node, now map[oci.Digest]oci.Descriptor) map[oci.Digest]bool {
	gone := map[oci.Digest]bool{}
	for _, d := range n.m.Manifests {
		about := oci.Digest(d.Annotations["vnd.docker.reference.digest"])
		if child, ok := now[about]; ok && isAttestation(d) && child.Digest != about {
			gone[d.Digest] = true
		}
	}
	return gone
}
