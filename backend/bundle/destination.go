package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// maxConfigSize bounds what is read into memory of a config.
const maxConfigSize = 16 << 20

// A destination is the bundle of one image. What isn't committed is gone with
// Close.
type destination struct {
	*place
	ref oci.Ref

	mu       sync.Mutex // held while something is put
	aside    *extract.Aside
	layers   []oci.Blob // that are extracted, lowest first
	dirty    bool       // with a layer that failed halfway too
	sums     extract.Sums
	warnings []extract.Warnings // of each layer
	config   []byte             // as it was put
	named    oci.Digest         // the config that the manifest names
	done     *marks             // Commit's; nil before it
}

// Head answers for "" with the manifest digest that the image in the bundle had
// where it came from, with the platform if one was chosen and the filters if there
// were any; [oci.ErrNotFound] if there is no whole bundle of ours. It knows no
// other reference.
func (d *destination) Head(_ context.Context, ref string) (oci.Descriptor, error) {
	m, ok := d.marks()
	if ref != "" || !ok || m.Reference != d.ref.Tagged() || m.Options != d.how.String() {
		return oci.Descriptor{}, oci.Wrap(oci.ErrNotFound, "look up", d.path, oci.Descriptor{})
	}
	desc := oci.Descriptor{Digest: m.Digest, Platform: m.Platform}
	if m.Filters != "" {
		desc.Annotations = map[string]string{oci.AnnotationFilters: m.Filters}
	}
	return desc, nil
}

// Resolve fails: a bundle keeps no manifest.
func (d *destination) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.Wrap(oci.ErrUnsupported, "read a manifest of", d.path, oci.Descriptor{})
}

// Fetch fails: a bundle keeps no layers.
func (d *destination) Fetch(_ context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	return nil, oci.Wrap(oci.ErrUnsupported, "read a blob of", d.path, desc)
}

// Has is false: each layer is extracted, one that stands twice twice.
func (d *destination) Has(context.Context, oci.Descriptor) (bool, error) { return false, nil }

// PutBlob takes the config (Layer -1), and layers as plain tar, lowest first. An
// attempt that fails leaves nothing: the layers below are extracted again.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	desc, err := d.put(ctx, b)
	if err != nil {
		return desc, oci.Wrap(err, "write blob", d.path, b.Desc)
	}
	return desc, nil
}

func (d *destination) put(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if err := d.begin(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	switch {
	case b.Layer == oci.NoLayer:
		return d.putConfig(ctx, b)
	case b.Layer < 0 || b.Layer > len(d.layers):
		return oci.Descriptor{}, fmt.Errorf("%w: layer %d came where layer %d was awaited", oci.ErrUnsupported, b.Layer, len(d.layers))
	}
	if b.Desc.Digest == "" {
		b.Desc.Digest = b.DiffID
	}
	if d.dirty || b.Layer < len(d.layers) {
		if err := d.replay(ctx, b.Layer); err != nil {
			return oci.Descriptor{}, err
		}
	}
	desc, w, err := d.extract(ctx, b)
	if err != nil {
		return oci.Descriptor{}, err
	}
	b.Desc = desc
	d.layers, d.warnings = append(d.layers, b), append(d.warnings, w)
	return desc, nil
}

// begin begins the folder beside PATH, once.
func (d *destination) begin(ctx context.Context) error {
	if d.done != nil {
		return errors.New("it is committed")
	}
	if d.aside != nil {
		return nil
	}
	err := d.free()
	if err != nil {
		return err
	}
	if d.aside, err = extract.Begin(ctx, d.path); err != nil {
		return err
	}
	return d.wipe()
}

func (d *destination) rootfs() string { return filepath.Join(d.aside.Dir(), runspec.RootFS) }

// extract extracts b on top of what is there.
func (d *destination) extract(ctx context.Context, b oci.Blob) (desc oci.Descriptor, w extract.Warnings, err error) {
	first := true
	desc, err = stage.Attempt(ctx, b, func(r io.Reader) error {
		if !first {
			if err := d.replay(ctx, b.Layer); err != nil {
				return err
			}
		}
		first, d.dirty = false, true
		st, err := extract.Layer(ctx, d.rootfs(), r, extract.Options{Sums: &d.sums})
		w = st.Warnings
		return err
	})
	d.dirty = err != nil
	return desc, w, err
}

// replay makes the root file system anew, of the lowest n layers.
func (d *destination) replay(ctx context.Context, n int) error {
	below := d.layers[:n]
	if err := d.wipe(); err != nil {
		return err
	}
	for _, b := range below {
		if _, _, err := d.extract(ctx, b); err != nil {
			d.dirty = true
			return fmt.Errorf("extract layer %d again: %w", b.Layer, err)
		}
		d.layers = append(d.layers, b)
	}
	d.warnings = d.warnings[:n]
	return nil
}

// wipe begins with an empty root file system.
func (d *destination) wipe() error {
	d.layers, d.dirty = nil, false
	d.sums.Reset()
	if err := d.aside.Reset(); err != nil {
		return err
	}
	return extract.MakeRoot(d.rootfs())
}

func (d *destination) putConfig(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	var raw []byte
	desc, err := stage.Attempt(ctx, b, func(r io.Reader) (err error) {
		raw, err = io.ReadAll(io.LimitReader(r, maxConfigSize+1))
		if len(raw) > maxConfigSize {
			return fmt.Errorf("config: %w: over %d bytes", oci.ErrTooLarge, maxConfigSize)
		}
		return err
	})
	if err == nil {
		_, err = runspec.Parse(raw)
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	d.config = raw
	return desc, nil
}

// PutManifest learns from raw which config the image has; raw itself is not kept.
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

// Commit writes config.json and gives the folder its place. The layers that were
// put must be those of the config.
func (d *destination) Commit(ctx context.Context, root, from oci.Descriptor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return oci.Wrap(d.commit(ctx, from), "commit "+d.ref.String()+" in", d.path, root)
}

func (d *destination) commit(ctx context.Context, from oci.Descriptor) error {
	switch {
	case d.aside == nil || d.config == nil:
		return fmt.Errorf("%w: no config was put", oci.ErrNotFound)
	case d.named != "" && d.named.Algorithm().FromBytes(d.config) != d.named:
		return fmt.Errorf("%w: the manifest names another config", oci.ErrInvalid)
	case d.dirty:
		return fmt.Errorf("%w: a layer could not be extracted", oci.ErrInvalid)
	}
	image, err := runspec.Parse(d.config)
	if err != nil {
		return err
	}
	if len(image.RootFS.DiffIDs) != len(d.layers) {
		return fmt.Errorf("%w: the config has %d layers, %d were put", oci.ErrInvalid, len(image.RootFS.DiffIDs), len(d.layers))
	}
	for i, b := range d.layers {
		if b.Desc.Digest != image.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d: %w: its diffID is %s, the config says %s", i, oci.ErrInvalid, b.Desc.Digest, image.RootFS.DiffIDs[i])
		}
	}
	tree, err := extract.Count(ctx, d.rootfs())
	if err != nil {
		return err
	}
	m := &marks{
		Reference: d.ref.Tagged(), Digest: from.Digest, Platform: from.Platform, Filters: from.Annotations[oci.AnnotationFilters],
		Options: d.how.String(), Config: digest.FromBytes(d.config), Entries: tree.Entries,
	}
	if err := d.describe(image, m); err != nil {
		return err
	}
	if err := d.aside.Place(d.overwrite); err != nil {
		return err
	}
	d.done = m
	d.warn()
	return nil
}

// warn says what could not be kept of the image.
func (d *destination) warn() {
	var all extract.Warnings
	for _, w := range d.warnings {
		all.Add(w)
	}
	if lines := all.Lines(); len(lines) > 0 {
		d.env.Warnf("%s: %s", d.path, strings.Join(lines, "; "))
	}
}

// Close removes what wasn't committed.
func (d *destination) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aside == nil {
		return nil
	}
	err := d.aside.Close()
	d.aside = nil
	return oci.Wrap(err, "clean up", d.path, oci.Descriptor{})
}
