package dir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// readConfig reads a config file and checks its bytes against its name.
func readConfig(root *os.Root, file string) ([]byte, error) {
	d, err := fromConfigPath(file)
	if err != nil {
		return nil, err
	}
	raw, _, err := safepath.ReadFile(root, file, maxConfigSize)
	if err != nil {
		return nil, safepath.Missing(err)
	}
	if d.Algorithm().FromBytes(raw) != d {
		return nil, fmt.Errorf("%s: %w: the bytes are others", file, oci.ErrDigestMismatch)
	}
	return raw, nil
}

// fromConfigPath gives the digest that a config file is named by.
func fromConfigPath(file string) (oci.Digest, error) {
	hex := file[:len(file)-len(path.Ext(file))]
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if d := digest.NewDigestFromEncoded(a, hex); oci.ValidDigest(d) == nil && configPath(d) == file {
			return d, nil
		}
	}
	return "", fmt.Errorf("%q is no config file: %w", file, oci.ErrInvalid)
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
