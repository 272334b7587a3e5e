package mounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// A destination takes the image ref. Layers that are complete stay without Commit:
// the next run goes on with them.
type destination struct {
	folder
	ref oci.Ref

	mu       sync.Mutex
	idle     *sync.Cond   // told when busy ends
	config   []byte       // as it was put
	named    oci.Digest   // the config that the manifest names
	order    []oci.Digest // of layers, lowest first; nil as long as there is no config
	busy     bool         // a layer is being extracted; it is one at a time
	done     map[oci.Digest]layerMark
	sums     map[oci.Digest]*extract.Sums // of what this run extracted
	waiting  map[oci.Digest]spooled
	warnings extract.Warnings
	closed   bool
}

// A spooled layer waits for its turn.
type spooled struct {
	file *os.File
	desc oci.Descriptor
}

func newDestination(p *place, ref oci.Ref) *destination {
	d := &destination{folder: folder{place: p}, ref: ref, done: map[oci.Digest]layerMark{}, sums: map[oci.Digest]*extract.Sums{}, waiting: map[oci.Digest]spooled{}}
	d.idle = sync.NewCond(&d.mu)
	return d
}

func (d *destination) look() error { return d.folder.look(d.ref.Tagged()) }

var errClosed = errors.New("it is closed")

// begin makes the folder ready to be written, once.
func (d *destination) begin(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	return d.folder.begin(ctx, d.ref.Tagged())
}

// Head answers for "" with the manifest digest that the image in the folder had
// where it came from, with the platform if one was chosen and the filters if there
// were any; [oci.ErrNotFound] unless all layers are there, and mounted where that
// is wanted. It knows no other reference.
func (d *destination) Head(_ context.Context, ref string) (oci.Descriptor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.plan
	if p == nil || ref != "" {
		return oci.Descriptor{}, oci.Wrap(oci.ErrNotFound, "look up "+d.ref.String()+" in", d.path, oci.Descriptor{})
	}
	if err := d.whole(p); err != nil {
		return oci.Descriptor{}, oci.Wrap(fmt.Errorf("%w: incomplete: %w", oci.ErrNotFound, err), "look up "+d.ref.String()+" in", d.path, oci.Descriptor{})
	}
	desc := oci.Descriptor{Digest: p.Digest, Platform: p.Platform}
	if p.Filters != "" {
		desc.Annotations = map[string]string{oci.AnnotationFilters: p.Filters}
	}
	return desc, nil
}

// whole returns an error unless all that p says is there.
func (d *destination) whole(p *plan) error {
	for _, dir := range append([]string{p.UpperDir, p.WorkDir, p.Target}, p.LowerDirs...) {
		if fi, err := d.root.Stat(dir); err != nil || !fi.IsDir() {
			return fmt.Errorf("%s: %w", dir, errors.Join(oci.ErrNotFound, err))
		}
	}
	if _, err := d.readConfig(p.Config); err != nil || !d.mount {
		return err
	}
	is, err := mountedAt(filepath.Join(d.dir, p.Target), p.Source)
	if err == nil && is != mountOurs {
		err = fmt.Errorf("%s isn't mounted", p.Target)
	}
	return err
}

// readConfig reads the config that a run before this one put.
func (d *destination) readConfig(want oci.Digest) ([]byte, error) {
	raw, _, err := safepath.ReadFile(d.root, runspec.ImageConfig, maxConfig)
	if err != nil {
		return nil, safepath.Missing(err)
	}
	if want.Algorithm().FromBytes(raw) != want {
		return nil, fmt.Errorf("%s: %w: the bytes are others", runspec.ImageConfig, oci.ErrDigestMismatch)
	}
	return raw, nil
}

// Resolve fails: the folder keeps no manifest.
func (d *destination) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.Wrap(oci.ErrUnsupported, "read a manifest of", d.path, oci.Descriptor{})
}

// Fetch gives the config; layers are there as files only.
func (d *destination) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan == nil || d.plan.Config != desc.Digest {
		return nil, oci.Wrap(oci.ErrUnsupported, "read a blob of", d.path, desc)
	}
	raw, err := d.readConfig(desc.Digest)
	if err != nil {
		return nil, oci.Wrap(err, "read blob", d.path, desc)
	}
	return safepath.Within(ctx, io.NopCloser(bytes.NewReader(raw))), nil
}

// Has knows layers by their diffID, once they are extracted, and the config of a
// folder that is complete.
func (d *destination) Has(_ context.Context, desc oci.Descriptor) (bool, error) {
	ok, err := d.has(desc)
	return ok, oci.Wrap(err, "look up blob", d.path, desc)
}

func (d *destination) has(desc oci.Descriptor) (bool, error) {
	if err := oci.ValidDigest(desc.Digest); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan != nil && desc.Digest == d.plan.Config {
		raw, err := d.readConfig(desc.Digest)
		if err != nil {
			return false, nil // it is put again
		}
		return true, d.setConfig(raw)
	}
	if _, ok := d.done[desc.Digest]; ok {
		return true, nil
	}
	m, ok, err := d.mark(desc.Digest, d.ref.Tagged())
	if err != nil || !ok {
		return false, err
	}
	for i, o := range d.order {
		if o == desc.Digest && belowOf(d.order, i) != m.Below {
			return false, nil
		}
	}
	d.done[desc.Digest] = m
	return true, nil
}

// PutBlob takes the config (Layer -1), and layers as plain tar in any order.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	err := d.begin(ctx)
	var desc oci.Descriptor
	switch {
	case err != nil:
	case b.Layer == oci.NoLayer:
		desc, err = d.putConfig(ctx, b)
	default:
		desc, err = d.putLayer(ctx, b)
	}
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "write blob", d.path, b.Desc)
	}
	return desc, nil
}

func (d *destination) putConfig(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	var raw []byte
	desc, err := stage.Attempt(ctx, b, func(r io.Reader) (err error) {
		raw, err = io.ReadAll(io.LimitReader(r, maxConfig+1))
		if len(raw) > maxConfig {
			return fmt.Errorf("config: %w: over %d bytes", oci.ErrTooLarge, maxConfig)
		}
		return err
	})
	if err == nil {
		_, err = runspec.Parse(raw)
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	d.mu.Lock()
	if d.plan != nil && d.plan.Config != desc.Digest {
		err = oci.Refuse(fmt.Sprintf("%s has another image of that name: name another folder, or unmount %s/%s and remove it", d.path, d.path, rootfsName))
	} else {
		err = d.setConfig(raw)
	}
	d.mu.Unlock()
	if err != nil {
		return oci.Descriptor{}, err
	}
	return desc, d.advance(ctx)
}

// setConfig learns the order of the layers. mu is held.
func (d *destination) setConfig(raw []byte) error {
	order, err := orderOf(raw)
	if err != nil {
		return err
	}
	for i, id := range order {
		// Only here does it show that a layer of an earlier run was above others then.
		if m, ok := d.done[id]; ok && d.sums[id] == nil && m.Below != belowOf(order, i) {
			return errors.Join(fmt.Errorf("layer %s was extracted for another image; it is removed: try again", id), d.discard(id))
		}
	}
	d.config, d.order = raw, order
	return nil
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

// Commit mounts the layers and writes the plan. They must be those of the config.
func (d *destination) Commit(ctx context.Context, root, from oci.Descriptor) error {
	err := d.begin(ctx)
	if err == nil {
		err = d.advance(ctx)
	}
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		err = d.commit(ctx, from)
	}
	return oci.Wrap(err, "commit "+d.ref.String()+" in", d.path, root)
}

func (d *destination) commit(ctx context.Context, from oci.Descriptor) error {
	for d.busy {
		d.idle.Wait()
	}
	switch next, missing := d.next(); {
	case d.closed:
		return errClosed
	case d.config == nil:
		return fmt.Errorf("%w: no config was put", oci.ErrNotFound)
	case d.named != "" && d.named.Algorithm().FromBytes(d.config) != d.named:
		return fmt.Errorf("%w: the manifest names another config", oci.ErrInvalid)
	case missing:
		return fmt.Errorf("layer %s: %w: it wasn't put", next, oci.ErrNotFound)
	}
	layers := []layerMark{}
	for _, id := range d.order {
		m := d.done[id]
		m.Image, m.Boot = "", "" // the plan vouches for it
		layers = append(layers, m)
	}
	p := newPlan(d.dir, layers)
	p.Image, p.Digest, p.Platform, p.Filters = d.ref.Tagged(), from.Digest, from.Platform, from.Annotations[oci.AnnotationFilters]
	p.Config = digest.FromBytes(d.config)
	if err := d.make(ctx, p); err != nil {
		return err
	}
	d.plan = p
	if lines := d.warnings.Lines(); len(lines) > 0 {
		d.env.Warnf("%s: %s", d.path, strings.Join(lines, "; "))
	}
	return nil
}

// Close frees what waits, and lets go of the folder.
func (d *destination) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	for d.busy {
		d.idle.Wait()
	}
	var err error
	for _, s := range d.waiting {
		err = errors.Join(err, s.file.Close())
	}
	clear(d.waiting)
	return oci.Wrap(errors.Join(err, d.folder.close()), "clean up", d.path, oci.Descriptor{})
}
