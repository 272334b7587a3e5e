package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes the image ref. What is put and not committed stays: the
// folder's images share their layers, and the next run finds them.
type destination struct {
	*place
	ref oci.Ref
	id  id

	mu     sync.Mutex
	config oci.Digest         // as it was put
	named  oci.Digest         // the config that the manifest names
	order  map[int]oci.Digest // layers that were put
	from   oci.Descriptor     // Commit's; Digest is "" before it
	sums   *extract.Sums      // of what was expanded; nil for nothing
}

// Head answers for "" the digest that the image had where it came from when it
// was committed, with the platform if one was chosen and the filters if there
// were any; [oci.ErrNotFound] unless
// config and layers are all there. It knows no other reference.
func (d *destination) Head(_ context.Context, ref string) (oci.Descriptor, error) {
	desc, err := d.head(ref)
	return desc, oci.Wrap(err, "look up "+d.ref.String()+" in", d.path, oci.Descriptor{})
}

func (d *destination) head(ref string) (oci.Descriptor, error) {
	root, err := d.stage.Root()
	if errors.Is(err, fs.ErrNotExist) || ref != "" {
		return oci.Descriptor{}, oci.ErrNotFound
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	file, m, err := d.read(root)
	if err != nil {
		return oci.Descriptor{}, err
	}
	// Another mode would look for it elsewhere.
	if m.Source == nil || m.Source.Reference != d.ref.Tagged() || (file == plainFile) == d.unique.Load() {
		return oci.Descriptor{}, oci.ErrNotFound
	}
	if err := d.complete(root, m); err != nil {
		return oci.Descriptor{}, fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err)
	}
	if !d.isExpanded(root, file, m) {
		return oci.Descriptor{}, fmt.Errorf("%w: not expanded", oci.ErrNotFound)
	}
	desc := oci.Descriptor{Digest: m.Source.Digest, Platform: m.Source.Platform}
	if m.Source.Filters != "" {
		desc.Annotations = map[string]string{oci.AnnotationFilters: m.Source.Filters}
	}
	return desc, nil
}

// read gives the image's manifest as the catalog has it. Errors match
// [oci.ErrNotFound] if it isn't listed or is no manifest.
func (d *destination) read(root *os.Root) (string, manifest, error) {
	c, err := d.readCatalog(root)
	for {
		if err != nil {
			return "", manifest{}, err
		}
		file := c.file(d.id)
		if file == "" {
			return "", manifest{}, fmt.Errorf("%w in %s", oci.ErrNotFound, catalogFile)
		}
		m, readErr := readManifest(root, file)
		if c, err = d.readCatalog(root); err != nil || c.file(d.id) != file {
			continue // it was moved aside in between
		}
		if errors.Is(readErr, fs.ErrNotExist) || errors.Is(readErr, oci.ErrInvalid) || errors.Is(readErr, oci.ErrTooLarge) {
			readErr = fmt.Errorf("%w: %w", oci.ErrNotFound, readErr)
		}
		return file, m, readErr
	}
}

// Resolve fails: a folder keeps no manifests.
func (d *destination) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.Wrap(oci.ErrUnsupported, "read a manifest of", d.path, oci.Descriptor{})
}

// Fetch opens a config, or a layer by its diffID.
func (d *destination) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	if err := oci.ValidDigest(desc.Digest); err != nil {
		return nil, err
	}
	rc, err := d.open(ctx, layerPath(desc.Digest), desc)
	if errors.Is(err, oci.ErrNotFound) {
		rc, err = d.open(ctx, configPath(desc.Digest), desc)
	}
	return rc, oci.Wrap(err, "read blob", d.path, desc)
}

// Has knows layers by their diffID, and configs. A layer.tar that none of our
// manifests vouches for is read and hashed, once in a run.
func (d *destination) Has(ctx context.Context, desc oci.Descriptor) (bool, error) {
	ok, err := d.has(ctx, desc)
	return ok, oci.Wrap(err, "look up blob", d.path, desc)
}

func (d *destination) has(ctx context.Context, desc oci.Descriptor) (bool, error) {
	if err := oci.ValidDigest(desc.Digest); err != nil {
		return false, err
	}
	root, err := d.stage.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if raw, err := readConfig(root, configPath(desc.Digest)); err == nil {
		return desc.Size <= 0 || int64(len(raw)) == desc.Size, nil
	}
	ok, size, err := d.layers.has(ctx, desc.Digest)
	return ok && (desc.Size <= 0 || size == desc.Size), err
}

// PutBlob takes the config ([oci.NoLayer]), and layers as plain tar: Desc.Digest,
// or DiffID, is what their bytes must hash to, if it is known.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	name := layerPath
	if b.Layer == oci.NoLayer {
		name = configPath
	} else if b.Desc.Digest == "" {
		b.Desc.Digest = b.DiffID
	}
	desc, err := d.stage.Put(ctx, b, name)
	if err != nil {
		return desc, oci.Wrap(err, "write blob", d.path, b.Desc)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.Layer == oci.NoLayer {
		d.config = desc.Digest
		return desc, nil
	}
	d.layers.wrote(layerPath(desc.Digest), desc.Size)
	if b.Layer == oci.UnknownLayer {
		return desc, nil // Commit finds it by the config's diff_ids
	}
	if d.order == nil {
		d.order = map[int]oci.Digest{}
	}
	d.order[b.Layer] = desc.Digest
	return desc, nil
}

// PutManifest learns from raw which config the image has; raw itself is not
// kept.
func (d *destination) PutManifest(_ context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m, err := oci.ParseManifest(mt, raw)
	if err == nil && m.IsIndex() {
		err = fmt.Errorf("an index: %w; choose a platform", oci.ErrUnsupported)
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "write manifest", d.path, desc)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.named = m.Config.Digest
	return desc, nil
}

// Commit writes the manifest file and lists it in the catalog. Config and
// layers must be there: the config that was put, else the one that the manifest
// names; and the layers in the order of its diff_ids.
func (d *destination) Commit(ctx context.Context, root, from oci.Descriptor) error {
	err := d.commit(ctx, from)
	return oci.Wrap(err, "name "+d.ref.String()+" in", d.path, root)
}

func (d *destination) commit(ctx context.Context, from oci.Descriptor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.manifest(ctx)
	if err != nil {
		return err
	}
	m.Source.Digest, m.Source.Platform, m.Source.Filters = from.Digest, from.Platform, from.Annotations[oci.AnnotationFilters]
	folders := []string{"."}
	for _, file := range m.Layers {
		folders = append(folders, path.Dir(file))
	}
	if err := d.stage.Sync(folders...); err != nil {
		return err
	}
	if err := d.entries.Do(ctx, listing{d.id, d.ref, m}); err != nil {
		return err
	}
	d.from = from
	return d.expandImage(ctx)
}

// manifest makes the manifest of what was put.
func (d *destination) manifest(ctx context.Context) (manifest, error) {
	config := d.config
	if config == "" {
		config = d.named
	}
	if config == "" {
		return manifest{}, fmt.Errorf("%w: no config was put", oci.ErrNotFound)
	}
	if err := oci.ValidDigest(config); err != nil {
		return manifest{}, err
	}
	root, err := d.stage.Root()
	if err != nil {
		return manifest{}, safepath.Missing(err)
	}
	raw, err := readConfig(root, configPath(config))
	if err != nil {
		return manifest{}, err
	}
	ids, err := diffIDs(raw)
	if err != nil {
		return manifest{}, fmt.Errorf("config %s: %w: %w", config, oci.ErrInvalid, err)
	}
	m := manifest{Config: configPath(config), Layers: []string{}, RepoTags: []string{d.id.repoTag()},
		Source: &origin{Reference: d.ref.Tagged(), Sizes: []int64{}}}
	for i, diffID := range ids {
		if put, ok := d.order[i]; ok && put != diffID {
			return manifest{}, fmt.Errorf("layer %d: %w: its diffID is %s, the config says %s", i, oci.ErrInvalid, put, diffID)
		}
		ok, size, err := d.layers.has(ctx, diffID)
		if err != nil {
			return manifest{}, err
		}
		if !ok {
			return manifest{}, fmt.Errorf("layer %d: %w: there is no file %s", i, oci.ErrNotFound, layerPath(diffID))
		}
		m.Layers = append(m.Layers, layerPath(diffID))
		m.Source.Sizes = append(m.Source.Sizes, size)
	}
	return m, nil
}

// Close does nothing: what was put stays for the next run.
func (d *destination) Close() error { return nil }
