package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes one image, which the daemon is to call tag.
type destination struct {
	image image // that has the name
	tag   string
	spool *dockersave.Writer

	mu     sync.Mutex
	config oci.Digest // as it was put
	named  oci.Digest // the config that the manifest names
	loaded oci.Digest // the config of what was loaded
	ids    []oci.Digest
}

// Head answers for "" with the image's ID, which [oci.AnnotationConfig] says to be
// its config's digest where the daemon counts so (not in Docker's containerd
// store). It knows no other reference.
func (d *destination) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	if ref != "" {
		return oci.Descriptor{}, oci.Wrap(oci.ErrNotFound, "look up "+ref+" in", d.image.String(), oci.Descriptor{})
	}
	is, err := inspect(ctx, d.image.client, d.image.name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if is.kept() {
		return is.describe(), nil
	}
	return oci.Descriptor{Digest: is.ID, Annotations: map[string]string{oci.AnnotationConfig: string(is.ID)}}, nil
}

// Has knows what was put and isn't loaded yet.
func (d *destination) Has(_ context.Context, desc oci.Descriptor) (bool, error) {
	return d.spool.Has(desc), nil
}

// Resolve fails: a daemon keeps no manifests, and to make one up it would have to
// save the image.
func (d *destination) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, d.image.wrap(oci.ErrUnsupported, "read a manifest of", oci.Descriptor{})
}

// Fetch opens what was put and isn't loaded yet.
func (d *destination) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	rc, err := d.spool.Fetch(ctx, desc)
	return rc, d.image.wrap(err, "read blob", desc)
}

// PutBlob takes the config ([oci.NoLayer]), and layers as plain tar: Desc.Digest,
// or DiffID, is what their bytes must hash to. They wait in a file without a name.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	desc, err := d.spool.PutBlob(ctx, b)
	if err != nil {
		return desc, d.image.wrap(err, "spool blob for", b.Desc)
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
	if err == nil && m.IsIndex() {
		err = fmt.Errorf("an index: %w; choose a platform", oci.ErrUnsupported)
	}
	if err != nil {
		return oci.Descriptor{}, d.image.wrap(err, "take manifest for", desc)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.named = m.Config.Digest
	return desc, nil
}

// Commit loads the image and then looks at what the daemon has under the name.
func (d *destination) Commit(ctx context.Context, _, _ oci.Descriptor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.image.wrap(d.commit(ctx), "load image", oci.Descriptor{})
}

func (d *destination) commit(ctx context.Context) error {
	config := d.config
	if config == "" {
		config = d.named
	}
	if config == "" {
		return fmt.Errorf("%w: no config was put", oci.ErrNotFound)
	}
	rc, err := d.spool.Fetch(ctx, oci.Descriptor{Digest: config, Size: -1})
	if err != nil {
		return fmt.Errorf("config %s: %w", config, err)
	}
	raw, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return fmt.Errorf("config %s: %w", config, err)
	}
	entry, err := d.spool.Entry(config, []string{d.tag}, nil)
	if err != nil {
		return err
	}
	if err := d.load(ctx, entry); err != nil {
		return err
	}
	d.loaded, d.ids = config, diffIDs(raw)
	return d.look(ctx, config, d.ids)
}

// load sends the archive with entry.
func (d *destination) load(ctx context.Context, entry dockersave.Entry) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := d.spool.WriteTo(ctx, w, []dockersave.Entry{entry})
		_ = w.CloseWithError(err) // which never fails
		written <- err
	}()
	err := d.image.client.Progress(ctx, engine.Call{
		Method: http.MethodPost, Path: "/images/load", Query: url.Values{"quiet": {"1"}},
		Header: http.Header{"Content-Type": {"application/x-tar"}}, Body: r,
	}, nil)
	_ = r.Close()
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return werr
	}
	return err
}

// look checks that the image that has the name is the one with config.
func (d *destination) look(ctx context.Context, config oci.Digest, ids []oci.Digest) error {
	is, err := inspect(ctx, d.image.client, d.image.name)
	if errors.Is(err, oci.ErrNotFound) {
		return fmt.Errorf("the daemon took the image, and now has none called %s: %w", d.tag, oci.ErrNotFound)
	}
	if err != nil {
		return err
	}
	return is.match(config, ids)
}

// Verify asks the daemon what it has under the name: an image with the config's
// digest as its ID, or, where IDs are something else, with its layers. With full
// it saves that image and hashes it, layer by layer.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	d.mu.Lock()
	config, ids := d.loaded, d.ids
	d.mu.Unlock()
	if config == "" { // it was there already
		config = oci.Digest(root.Annotations[oci.AnnotationConfig])
	}
	if config != "" {
		if err := d.look(ctx, config, ids); err != nil {
			return d.image.wrap(err, "verify image", oci.Descriptor{})
		}
	}
	if !full {
		return nil
	}
	return d.image.wrap(d.hash(ctx), "verify image", oci.Descriptor{})
}

// hash reads all of the image.
func (d *destination) hash(ctx context.Context) error {
	buf := make([]byte, 128<<10)
	for b, err := range d.image.Stream(ctx, "") {
		if err != nil {
			return err
		}
		rc, err := b.Open(ctx)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{rc}, buf)
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the disk back.
func (d *destination) Close() error { return d.spool.Close() }
