package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// maxConfigSize is the most bytes of an image's config that are read to be
// understood: 4 MiB. What only passes has no limit.
const maxConfigSize = 4 << 20

// isImageConfig reports whether mt is the media type of a config that tells
// platform and layers, OCI's or docker's.
func isImageConfig(mt oci.MediaType) bool {
	return mt == ocispec.MediaTypeImageConfig || mt == "application/vnd.docker.container.image.v1+json"
}

// readConfig reads and verifies the config d and unmarshals it into v. The bytes
// are kept, so that they needn't come from the source again to be copied. A
// place that has them is asked before the source.
func (c *copier) readConfig(ctx context.Context, d oci.Descriptor, v any) error {
	raw, err := c.rawConfig(ctx, d)
	if err != nil {
		return err
	}
	c.config, c.configRaw = d.Digest, raw
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("config %s: %w: %w", d.Digest, oci.ErrInvalid, err)
	}
	return nil
}

// rawConfig reads and verifies the config d, unless it is the one that was kept.
func (c *copier) rawConfig(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if d.Digest == c.config {
		return c.configRaw, nil
	}
	return c.fetchConfig(ctx, d)
}

func (c *copier) fetchConfig(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if d.Size > maxConfigSize {
		return nil, fmt.Errorf("config %s of %d bytes: %w (limit %d)", d.Digest, d.Size, oci.ErrTooLarge, maxConfigSize)
	}
	from := c.Source
	if c.Dest != nil && c.Traits.Raw {
		if there, err := c.Dest.Has(ctx, d); err == nil && there {
			from = c.Dest
		}
	}
	rc, err := from.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc) // it ends at d.Size
}
