package dockersave

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// WriteTo writes the archive of list: for each entry, in the order of their
// names, its config and its layers, each different one once, and manifest.json
// at the end. From file to file the system copies. What is written is no more
// in w; a second archive can't be made.
func (w *Writer) WriteTo(ctx context.Context, out io.Writer, list []Entry) error {
	list = slices.SortedFunc(slices.Values(list), byName)
	raw, err := encode(list)
	if err != nil {
		return err
	}
	t, done := tarfile.NewWriter(ctx, out), map[string]bool{}
	for _, e := range list {
		for _, name := range append([]string{e.Config}, e.Layers...) {
			if done[name] {
				continue
			}
			done[name] = true
			if err := w.writeBlob(t, name); err != nil {
				return err
			}
		}
	}
	if err := t.File(ManifestFile, io.NewSectionReader(bytes.NewReader(raw), 0, int64(len(raw)))); err != nil {
		return err
	}
	return t.Close()
}

// writeBlob writes the config or layer that is called name.
func (w *Writer) writeBlob(t *tarfile.Writer, name string) error {
	b := w.blob(blobOf(name))
	if b == nil {
		return fmt.Errorf("%s: %w", name, oci.ErrNotFound)
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	if err := t.File(name, r); err != nil {
		return err
	}
	if b.free != nil {
		b.free()
	}
	return nil
}

// Manifest gives the manifest.json that WriteTo writes of list.
func Manifest(list []Entry) ([]byte, error) {
	return encode(slices.SortedFunc(slices.Values(list), byName))
}

// New reports whether the archive of list has anything that was put: else all of
// it was adopted.
func (w *Writer) New(list []Entry) bool {
	for _, e := range list {
		for _, name := range append([]string{e.Config}, e.Layers...) {
			if b := w.blob(blobOf(name)); b == nil || b.free != nil {
				return true
			}
		}
	}
	return false
}

// blobOf is what configName and layerName made a name of.
func blobOf(name string) oci.Digest {
	hex := strings.TrimSuffix(strings.TrimSuffix(name, "/layer.tar"), ".json")
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if len(hex) == 2*a.Size() {
			return digest.NewDigestFromEncoded(a, hex)
		}
	}
	return ""
}
