package dockersave

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// config is what is kept of a config, which any number of images may share. Its
// bytes are not: an archive can claim more of them than there is memory.
type config struct {
	desc oci.Descriptor
	ids  []oci.Digest // of the layers, base first
}

// config gives what the member called name is.
func (a *Archive) config(name string) (*config, error) {
	m, err := a.file.Lookup(name)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.configs[m.Name]; c != nil {
		return c, nil
	}
	raw, err := a.file.ReadFile(name, maxConfig)
	if err != nil {
		return nil, err
	}
	c := &config{desc: oci.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	if c.ids, err = diffIDs(raw); err != nil {
		return nil, fmt.Errorf("%.200q: %w: %w", name, oci.ErrInvalid, err)
	}
	a.configs[m.Name] = c
	return c, nil
}

// diffIDs reads the layers of an image config, base first.
func diffIDs(config []byte) ([]oci.Digest, error) {
	var c struct {
		RootFS *struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	if c.RootFS == nil {
		return nil, errors.New("it has no rootfs: it is no image's config")
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := oci.ValidDigest(id); err != nil {
			return nil, err
		}
	}
	return c.RootFS.DiffIDs, nil
}
