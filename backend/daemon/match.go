package daemon

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/quaymaster/quaymaster/oci"
)

// match returns an error matching [oci.ErrDigestMismatch] unless i is the image
// with config, whose layers are ids.
func (i *inspection) match(config oci.Digest, ids []oci.Digest) error {
	if i.ID == config {
		return nil
	}
	if !i.kept() {
		return fmt.Errorf("%w: the daemon has image %s there, not %s; another program has changed it", oci.ErrDigestMismatch, i.ID, config)
	}
	if !slices.Equal(i.RootFS.Layers, ids) {
		return fmt.Errorf("%w: the image that the daemon has there, %s, has other layers than %s; another program has changed it", oci.ErrDigestMismatch, i.ID, config)
	}
	return nil
}

// diffIDs reads the layers of a config, which was read before.
func diffIDs(config []byte) []oci.Digest {
	var c struct {
		RootFS rootFS `json:"rootfs"`
	}
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	return c.RootFS.DiffIDs
}
