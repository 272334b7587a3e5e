package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// A layoutFound is what [checkLayout] saw.
type layoutFound struct {
	images int
	blobs  int   // files below blobs/
	bytes  int64 // of them
}

// checkLayout reads the OCI layout in dir by itself, with none of the program's
// code: every file below blobs/ has the digest that it is named by, every
// descriptor has its blob, and the names are those of want, each with its digest.
func checkLayout(dir string, want map[string]oci.Digest) (layoutFound, error) {
	var found layoutFound
	blobs := filepath.Join(dir, ocispec.ImageBlobsDir)
	err := filepath.WalkDir(blobs, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		named := oci.Digest(filepath.Base(filepath.Dir(path)) + ":" + filepath.Base(path))
		if got := named.Algorithm().FromBytes(body); got != named {
			return fmt.Errorf("%s has digest %s", path, got)
		}
		found.blobs++
		found.bytes += int64(len(body))
		return nil
	})
	if err != nil {
		return found, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return found, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return found, err
	}
	var wrong []error
	for _, d := range index.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		switch digest, ok := want[name]; {
		case !ok:
			wrong = append(wrong, fmt.Errorf("%s is in the layout, but wasn't asked for", name))
		case digest != d.Digest:
			wrong = append(wrong, fmt.Errorf("%s is %s in the layout and %s at Quay", name, d.Digest, digest))
		default:
			found.images++
		}
		if err := checkGraph(blobs, d); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	if found.images != len(want) {
		wrong = append(wrong, fmt.Errorf("%d images are in the layout, want %d", found.images, len(want)))
	}
	return found, errors.Join(wrong...)
}

// checkGraph looks that d and all below it is there, as long as it should be.
func checkGraph(blobs string, d oci.Descriptor) error {
	path := filepath.Join(blobs, d.Digest.Algorithm().String(), d.Digest.Encoded())
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() != d.Size {
		return fmt.Errorf("%s has %d bytes, want %d", d.Digest, info.Size(), d.Size)
	}
	if !strings.Contains(d.MediaType, "manifest") && !strings.Contains(d.MediaType, "index") {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m struct {
		Config    *oci.Descriptor
		Layers    []oci.Descriptor
		Manifests []oci.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	below := append(m.Layers, m.Manifests...)
	if m.Config != nil {
		below = append(below, *m.Config)
	}
	for _, b := range below {
		if err := checkGraph(blobs, b); err != nil {
			return err
		}
	}
	return nil
}
