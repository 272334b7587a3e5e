package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes one image. It keeps no manifests: what it answers is made
// of manifest.json.
type destination struct {
	*place
	ref oci.Ref

	mu     sync.Mutex
	config oci.Digest // as it was put
	named  oci.Digest // the config that the manifest names
}

// Head answers for "" the digest that the image had where it came from when it
// was committed, with the platform if one was chosen and the filters if there
// were any; [oci.ErrNotFound] unless config and layers are all there. It knows no
// other reference.
func (d *destination) Head(_ context.Context, ref string) (oci.Descriptor, error) {
	i := d.find(d.ref)
	if ref != "" || i == nil || i.Renamed() || !d.writer.Adopt(i) {
		return oci.Descriptor{}, oci.Wrap(oci.ErrNotFound, "look up "+d.ref.Tagged()+" in", d.path, oci.Descriptor{})
	}
	desc := oci.Descriptor{Digest: i.Source.Digest, Platform: i.Source.Platform}
	if i.Source.Filters != "" {
		desc.Annotations = map[string]string{oci.AnnotationFilters: i.Source.Filters}
	}
	return desc, nil
}

// Resolve fails: an archive keeps no manifests.
func (d *destination) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.Wrap(oci.ErrUnsupported, "read a manifest of", d.path, oci.Descriptor{})
}

// Fetch opens a config, or a layer by its diffID, before Finish.
func (d *destination) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	rc, err := d.writer.Fetch(ctx, desc)
	return rc, oci.Wrap(err, "read blob", d.path, desc)
}

// Has knows layers by their diffID, and configs.
func (d *destination) Has(_ context.Context, desc oci.Descriptor) (bool, error) {
	return d.writer.Has(desc), nil
}

// PutBlob takes the config (Layer -1), and layers as plain tar.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	err := d.begin()
	var desc oci.Descriptor
	if err == nil {
		desc, err = d.writer.PutBlob(ctx, b)
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "write blob", d.path, b.Desc)
	}
	if b.Layer == oci.NoLayer {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.config = desc.Digest
	}
	return desc, nil
}

// PutManifest learns from raw which config the image has; raw itself is not
// kept.
func (d *destination) PutManifest(_ context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m, err := oci.ParseManifest(mt, raw)
	switch {
	case err == nil && m.IsIndex():
		err = fmt.Errorf("an index: %w; choose a platform", oci.ErrUnsupported)
	case err == nil && m.Config == nil:
		err = fmt.Errorf("%w: it has no config", oci.ErrInvalid)
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "write manifest", d.path, desc)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.named = m.Config.Digest
	return desc, nil
}

// Commit enters the image into the archive that is to be. Config and layers must
// have been put: the config that was put, else the one that the manifest names.
func (d *destination) Commit(_ context.Context, root, from oci.Descriptor) error {
	d.mu.Lock()
	config := d.config
	if config == "" {
		config = d.named
	}
	d.mu.Unlock()
	entry, err := d.writer.Entry(config, d.tags(d.ref), &dockersave.Origin{
		Reference: d.ref.Tagged(), Digest: from.Digest, Platform: from.Platform, Filters: from.Annotations[oci.AnnotationFilters],
	})
	if err != nil {
		return oci.Wrap(err, "name "+d.ref.Tagged()+" in", d.path, root)
	}
	d.place.mu.Lock()
	defer d.place.mu.Unlock()
	d.commits[d.ref.Tagged()] = entry
	return nil
}

// Verify reads an image back that the archive has already. What this run has
// committed is read back by Finish, as thoroughly as was asked for here.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	d.place.mu.Lock()
	_, committed := d.commits[d.ref.Tagged()]
	if committed {
		d.check, d.full = true, d.full || full
	}
	d.place.mu.Unlock()
	if committed {
		return nil
	}
	i := d.find(d.ref)
	if i == nil {
		return oci.Wrap(oci.ErrNotFound, "verify "+d.ref.Tagged()+" in", d.path, root)
	}
	return oci.Wrap(reread(ctx, i, full, map[oci.Digest]bool{}), "verify "+d.ref.Tagged()+" in", d.path, root)
}

// reread reads the config of i, and with full its layers; what is in seen is
// passed over.
func reread(ctx context.Context, i *dockersave.Image, full bool, seen map[oci.Digest]bool) error {
	_, raw, err := i.Manifest(ctx)
	if err != nil {
		return err
	}
	if i.Renamed() {
		return fmt.Errorf("%s: %w: it has other bytes", i.Entry.Config, oci.ErrDigestMismatch)
	}
	if !full {
		return nil
	}
	m, err := oci.ParseManifest(oci.MediaTypeManifest, raw)
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		rc, err := i.Fetch(ctx, l)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{rc}, make([]byte, 128<<10))
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close does nothing: what was put and isn't committed goes when the run ends.
func (d *destination) Close() error { return nil }
