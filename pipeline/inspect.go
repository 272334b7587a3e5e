package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

// Info is what an image says of itself. Its JSON is occystrap's, with digest
// and platforms behind it. Write it without HTML escapes: created_by is full of
// ampersands.
//
// Of an image without a manifest ([oci.AnnotationSynthetic]) ManifestInfo is nil
// and Digest ""; TarLayers, which stand in the place of its layers, are from the
// config.
type Info struct {
	Image string `json:"image"` // repository path without host
	Tag   string `json:"tag"`   // "" where the name has none
	*ManifestInfo
	*ConfigInfo                // nil for what is no image
	Digest      oci.Digest     `json:"digest"`              // of what the name means: an index's, where it is one
	Platforms   []PlatformInfo `json:"platforms,omitempty"` // of an index
	TarLayers   []TarLayer     `json:"-"`                   // of an image without a manifest
	Ref         oci.Ref        `json:"-"`                   // the name in full
}

// MarshalJSON leaves out what an image without a manifest hasn't got.
func (i Info) MarshalJSON() ([]byte, error) {
	if i.ManifestInfo != nil || i.ConfigInfo == nil {
		type plain Info // without this method
		return jsonedit.Marshal(plain(i)), nil
	}
	layers := orEmpty(i.TarLayers)
	return jsonedit.Marshal(struct {
		Image string `json:"image"`
		Tag   string `json:"tag"`
		PlatformConfig
		LayerCount int        `json:"layer_count"`
		Layers     []TarLayer `json:"layers"`
		ContainerConfig
		Digest    oci.Digest     `json:"digest,omitempty"`
		Platforms []PlatformInfo `json:"platforms,omitempty"`
	}{i.Image, i.Tag, i.PlatformConfig, len(layers), layers, i.ContainerConfig, i.Digest, i.Platforms}), nil
}

// TarLayer is one layer of an image without a manifest, 0 being the lowest.
type TarLayer struct {
	Index     int        `json:"index"`
	DiffID    oci.Digest `json:"diff_id"`
	CreatedBy *string    `json:"created_by,omitempty"` // nil where the history has no entry
}

// ManifestInfo is of the image's manifest; of an index it is one child's.
type ManifestInfo struct {
	SchemaVersion int            `json:"schema_version"`
	MediaType     *oci.MediaType `json:"media_type"` // nil where the manifest doesn't say
	ConfigDigest  oci.Digest     `json:"config_digest"`
	ConfigSize    int64          `json:"config_size"` // bytes
	LayerCount    int            `json:"layer_count"`
	LayerBytes    int64          `json:"total_compressed_size"` // bytes
	Layers        []LayerInfo    `json:"layers"`
}

// LayerInfo is of one layer, 0 being the lowest.
type LayerInfo struct {
	Index       int           `json:"index"`
	Digest      oci.Digest    `json:"digest"`
	Size        int64         `json:"size"` // bytes as stored
	MediaType   oci.MediaType `json:"media_type"`
	Compression string        `json:"compression"` // by the media type: gzip, zstd, none, unknown
	DiffID      oci.Digest    `json:"diff_id,omitempty"`
	CreatedBy   *string       `json:"created_by,omitempty"` // nil where the history has no entry
}

// ConfigInfo is of the image's config.
type ConfigInfo struct {
	PlatformConfig
	ContainerConfig
}

// PlatformConfig says what the image is for and made of.
type PlatformConfig struct {
	Architecture string       `json:"architecture"`
	OS           string       `json:"os"`
	Variant      string       `json:"variant"`
	Created      string       `json:"created"` // as it stands there
	DiffIDs      []oci.Digest `json:"diff_ids"`
}

// ContainerConfig says how it came to be, and what a container of it is like.
type ContainerConfig struct {
	HistoryCount    int               `json:"history_count"`
	EmptyLayerCount int               `json:"empty_layer_count"`
	Labels          map[string]string `json:"labels"`
	Env             []string          `json:"env"`
	Entrypoint      []string          `json:"entrypoint"` // nil is null: not set
	Cmd             []string          `json:"cmd"`        // likewise
	WorkingDir      string            `json:"working_dir"`
	ExposedPorts    []string          `json:"exposed_ports"` // sorted
	Volumes         []string          `json:"volumes"`       // sorted
}

// PlatformInfo is one image of an index.
type PlatformInfo struct {
	OS           string     `json:"os"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant"`
	Digest       oci.Digest `json:"digest"`
	Size         int64      `json:"size"` // of the manifest, in bytes
}

// Inspect reads item's manifest and config, two requests, or three for an index;
// of that the image for the first of platforms, or for linux/amd64, or else the
// first it has. Errors are those of [Copy].
func Inspect(ctx context.Context, src oci.Source, item oci.Item, platforms []oci.Platform) (Info, error) {
	info := Info{Image: item.Ref.Repository, Tag: item.Ref.Tag, Ref: item.Ref}
	c := &copier{Image: Image{Item: item, Source: src}}
	c.report.Reference = label(item)
	if err := c.inspect(ctx, &info, platforms); err != nil {
		return info, &oci.Error{Op: "inspect", Ref: c.report.Reference, Err: err}
	}
	return info, nil
}

func (c *copier) inspect(ctx context.Context, info *Info, platforms []oci.Platform) error {
	if d, ok := c.Source.(oci.Describer); ok {
		return c.inspectDescribed(ctx, info, d)
	}
	n, err := c.resolve(ctx, c.Item.Desc.Digest)
	if err != nil {
		return err
	}
	if !oci.IsSynthetic(n.Descriptor) {
		info.Digest = n.Digest
	}
	for depth := 0; n.m.IsIndex(); depth++ {
		if depth == 0 {
			info.Platforms = platformInfo(n.m.Manifests)
		}
		d, err := representative(n.m.Manifests, platforms, depth)
		if err != nil {
			return err
		}
		if n, err = c.child(ctx, d); err != nil {
			return err
		}
	}
	if !oci.IsSynthetic(n.Descriptor) {
		info.ManifestInfo = manifestInfo(n)
	}
	if !isImageConfig(n.m.Config.MediaType) {
		return nil
	}
	var cfg config
	if err := c.readConfig(ctx, *n.m.Config, &cfg); err != nil {
		return oci.Wrap(err, "read config", c.report.Reference, oci.Descriptor{})
	}
	info.describe(cfg)
	return nil
}

// describe adds what the config says.
func (i *Info) describe(cfg config) {
	i.ConfigInfo = cfg.info()
	if i.ManifestInfo != nil {
		cfg.describe(i.Layers)
		return
	}
	layers := make([]LayerInfo, len(cfg.RootFS.DiffIDs))
	cfg.describe(layers)
	i.TarLayers = make([]TarLayer, len(layers))
	for n, l := range layers {
		i.TarLayers[n] = TarLayer{Index: n, DiffID: l.DiffID, CreatedBy: l.CreatedBy}
	}
}

// representative gives the entry whose metadata stands for the index.
func representative(entries []oci.Descriptor, platforms []oci.Platform, depth int) (oci.Descriptor, error) {
	want := linuxAMD64
	if len(platforms) > 0 {
		want = platforms[0]
	}
	d, err := pick(entries, want)
	first := slices.IndexFunc(entries, func(d oci.Descriptor) bool { return !isAttestation(d) })
	if err != nil && len(platforms) == 0 && first >= 0 {
		d, err = entries[first], nil
	}
	if err == nil && depth == maxDepth {
		err = fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxDepth)
	}
	return d, err
}

func platformInfo(entries []oci.Descriptor) []PlatformInfo {
	var out []PlatformInfo
	for _, d := range entries {
		if isAttestation(d) {
			continue
		}
		p := PlatformInfo{Digest: d.Digest, Size: d.Size}
		if d.Platform != nil {
			p.OS, p.Architecture, p.Variant = d.Platform.OS, d.Platform.Architecture, d.Platform.Variant
		}
		out = append(out, p)
	}
	return out
}

func manifestInfo(n node) *ManifestInfo {
	m := &ManifestInfo{
		SchemaVersion: n.m.SchemaVersion, ConfigDigest: n.m.Config.Digest, ConfigSize: n.m.Config.Size,
		LayerCount: len(n.m.Layers), LayerBytes: n.m.Bytes(), Layers: make([]LayerInfo, 0, len(n.m.Layers)),
	}
	if n.m.Said != "" {
		m.MediaType = &n.m.Said
	}
	for i, d := range n.m.Layers {
		m.Layers = append(m.Layers, LayerInfo{Index: i, Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, Compression: compression(d.MediaType)})
	}
	return m
}

// compression says what mt promises of a layer.
func compression(mt oci.MediaType) string {
	switch {
	case strings.HasSuffix(mt, "gzip"):
		return "gzip"
	case strings.HasSuffix(mt, "zstd"):
		return "zstd"
	case strings.HasSuffix(mt, ".tar"):
		return "none"
	}
	return "unknown"
}

// A config is an image's, as far as Info tells of it.
type config struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Variant      string   `json:"variant"`
	Created      string   `json:"created"`
	History      []change `json:"history"`
	RootFS       struct {
		DiffIDs []oci.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	Config ocispec.ImageConfig `json:"config"`
}

// A change is one entry of the history.
type change struct {
	CreatedBy  string `json:"created_by"`
	EmptyLayer bool   `json:"empty_layer"`
}

func (c *config) info() *ConfigInfo {
	i := &ConfigInfo{
		PlatformConfig{c.Architecture, c.OS, c.Variant, c.Created, orEmpty(c.RootFS.DiffIDs)},
		ContainerConfig{
			HistoryCount: len(c.History), Labels: c.Config.Labels, Env: orEmpty(c.Config.Env),
			Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, WorkingDir: c.Config.WorkingDir,
			ExposedPorts: orEmpty(slices.Sorted(maps.Keys(c.Config.ExposedPorts))),
			Volumes:      orEmpty(slices.Sorted(maps.Keys(c.Config.Volumes))),
		},
	}
	if i.Labels == nil {
		i.Labels = map[string]string{}
	}
	for _, h := range c.History {
		if h.EmptyLayer {
			i.EmptyLayerCount++
		}
	}
	return i
}

// describe adds what the config says of the layers: the i-th belongs to the
// i-th change that isn't empty.
func (c *config) describe(layers []LayerInfo) {
	for i := range min(len(layers), len(c.RootFS.DiffIDs)) {
		layers[i].DiffID = c.RootFS.DiffIDs[i]
	}
	i := 0
	for _, h := range c.History {
		if h.EmptyLayer || i == len(layers) {
			continue
		}
		layers[i].CreatedBy = &h.CreatedBy
		i++
	}
}

// orEmpty gives s, and [] in place of null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
