package dir

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// Verify reads catalog, manifest and config again and compares each layer's
// size; with full it hashes every layer, each once in a run.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	return oci.Wrap(d.verify(ctx, full), "verify "+d.ref.String()+" in", d.path, root)
}

func (d *destination) verify(ctx context.Context, full bool) error {
	root, err := d.stage.Root()
	if err != nil {
		return safepath.Missing(err)
	}
	file, m, err := d.read(root)
	if err != nil {
		return err
	}
	d.mu.Lock()
	from := d.from
	d.mu.Unlock()
	if from.Digest != "" && (m.Source == nil || m.Source.Digest != from.Digest || m.Source.Reference != d.ref.Tagged() ||
		m.Source.Filters != from.Annotations[oci.AnnotationFilters]) {
		return fmt.Errorf("%s: %w: it is another image now; another process has changed it", file, oci.ErrDigestMismatch)
	}
	if err := d.complete(root, m); err != nil {
		return err
	}
	if err := d.verifyExpansion(ctx, root, file, m, full); err != nil || !full {
		return err
	}
	config, err := readConfig(root, m.Config)
	if err != nil {
		return err
	}
	ids, err := diffIDs(config)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := d.layers.rehash(ctx, id); err != nil {
			return fmt.Errorf("%w; delete that file and run again", err)
		}
	}
	return nil
}

// complete returns an error unless m's config is whole and each layer is there
// with the size that m says.
func (d *destination) complete(root *os.Root, m manifest) error {
	sizes := m.sizes()
	if sizes == nil && len(m.Layers) > 0 {
		return fmt.Errorf("the sizes of its layers are not known: %w", oci.ErrNotFound)
	}
	for file, want := range sizes {
		if got, err := d.stage.Size(file); err != nil || got != want {
			return errors.Join(err, fmt.Errorf("%s: %w: %d bytes, want %d", file, oci.ErrNotFound, got, want))
		}
	}
	_, err := readConfig(root, m.Config)
	return err
}
