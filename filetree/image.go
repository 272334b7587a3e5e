package filetree

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// An Image is one manifest: an image, or one platform of an index.
type Image struct {
	Manifest oci.Descriptor
	// Platform is what the index says of it; nil for what is of no index.
	Platform *oci.Platform
	Config   oci.Descriptor
	Layers   []oci.Descriptor // lowest first
}

// IsImage reports whether the config is an image's, OCI's or docker's: what
// else has a manifest is an artifact, and has no file system.
func (i Image) IsImage() bool {
	return i.Config.MediaType == ocispec.MediaTypeImageConfig || i.Config.MediaType == "application/vnd.docker.container.image.v1+json"
}

// HoldsFiles reports whether layer d of i is an archive of files.
func (i Image) HoldsFiles(d oci.Descriptor) bool {
	_, ok := layer.CodecOf(d.MediaType)
	return ok || i.IsImage()
}

// A Config is what an image's config says, as far as anyone here asks.
type Config struct {
	oci.Platform
	RootFS struct {
		DiffIDs []oci.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	Config ocispec.ImageConfig `json:"config"`
}

// DiffID gives the diffID of layer i, "" if the config doesn't say.
func (c *Config) DiffID(i int) oci.Digest {
	if c == nil || i >= len(c.RootFS.DiffIDs) {
		return ""
	}
	return c.RootFS.DiffIDs[i]
}

// maxConfig is the most bytes of a config that are read: 4 MiB.
const maxConfig = 4 << 20

// ReadConfig reads i's config. Of what is no image the config is empty, and
// nothing is read. It returns an error matching [oci.ErrInvalid] or
// [oci.ErrTooLarge], or one of src.
func ReadConfig(ctx context.Context, src oci.Source, i Image) (*Config, error) {
	c := &Config{}
	if !i.IsImage() {
		return c, nil
	}
	if i.Config.Size > maxConfig {
		return nil, fmt.Errorf("config of %d bytes: %w (limit %d)", i.Config.Size, oci.ErrTooLarge, maxConfig)
	}
	rc, err := src.Fetch(ctx, i.Config)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc) // it ends at its size
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
	}
	return c, nil
}
