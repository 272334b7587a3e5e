package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// place is a folder that is written to.
type place struct {
	path    string
	stage   *stage.Stage
	name    *oci.Ref // from the URI: the one image; nil for any number
	unique  atomic.Bool
	expand  bool
	env     backend.Env
	catalog safepath.View[catalog]
	entries *stage.Group[listing]
	layers  *layers
}

// listing is a manifest that is to be written and listed.
type listing struct {
	id       id
	ref      oci.Ref
	manifest manifest
}

func newPlace(st *stage.Stage, name *oci.Ref, unique bool, env backend.Env) *place {
	p := &place{path: st.Path(), stage: st, name: name, env: env,
		catalog: safepath.View[catalog]{Name: catalogFile, Limit: maxCatalogSize, Parse: parseCatalog}}
	p.unique.Store(unique)
	p.entries = stage.NewGroup(st.Lock, p.write)
	p.layers = &layers{place: p, size: map[string]int64{}, whole: map[string]bool{}}
	return p
}

// Traits: a path with REF takes one image.
func (p *place) Traits() oci.Traits { return oci.Traits{Many: p.name == nil, Raw: true} }

// SharedBlobs makes it an [oci.Shelf].
func (p *place) SharedBlobs() bool { return true }

// UseUniqueNames gives each image a manifest file of its own from here on, and
// reports whether that is new. A bulk run asks for it before it opens images:
// in manifest.json, the last of many would take the place of the others.
func (p *place) UseUniqueNames() (changed bool) { return p.unique.CompareAndSwap(false, true) }

// Image opens the destination of name. The REF of the URI, if there is one,
// takes its place. The error matches [oci.ErrRefused] if the folder has the same
// repository and tag from another registry.
func (p *place) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	if p.name != nil {
		name = *p.name
	}
	fail := func(err error) (oci.Destination, error) {
		return nil, oci.Wrap(err, "open "+name.String()+" in", p.path, oci.Descriptor{})
	}
	if name.Repository == "" || name.Tag == "" && name.Digest == "" {
		return fail(oci.Usage("a folder wants an image name: write dir://PATH:[host/]repository:tag"))
	}
	d := &destination{place: p, ref: name, id: idOf(name)}
	root, err := p.stage.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return fail(err)
	}
	c, err := p.readCatalog(root)
	if err != nil {
		return fail(err)
	}
	if err := p.mayExpandAny(root, c, d.id); err != nil {
		return fail(err)
	}
	if err := p.check(root, c, d.id, name); err != nil {
		return fail(err)
	}
	return d, nil
}

// readCatalog gives catalog.json as it is now, empty if there is none. It must
// not be changed.
func (p *place) readCatalog(root *os.Root) (catalog, error) {
	c, err := p.catalog.Get(root)
	if errors.Is(err, fs.ErrNotExist) {
		return catalog{}, nil
	}
	return c, err
}

// check refuses to put an image in the place of one from elsewhere, which the
// catalog can't hold beside it, or of a manifest.json that is no image's.
func (p *place) check(root *os.Root, c catalog, i id, ref oci.Ref) error {
	if !p.unique.Load() { // another image in manifest.json is replaced, and fileFor says so
		_, err := readManifest(root, plainFile)
		if (errors.Is(err, oci.ErrInvalid) || errors.Is(err, oci.ErrTooLarge)) && len(c.users(plainFile)) == 0 {
			return oci.Refuse(fmt.Sprintf("%s/%s is no image's manifest and would be overwritten; use another folder, or unique_names=true", p.path, plainFile))
		}
		return nil
	}
	file := c.file(i)
	if file == "" {
		return nil
	}
	m, err := readManifest(root, file)
	if err != nil || m.Source == nil {
		return nil // it is written anew; or occystrap wrote it and didn't say from where
	}
	was, err := oci.ParseRef(m.Source.Reference, "localhost")
	if err == nil && idOf(was) == i && was.Registry != ref.Registry && m.Source.Reference != ref.Tagged() {
		return oci.Refuse(fmt.Sprintf("%s holds %s, and a folder keeps names without the registry: %s would take its place; use another folder, or ocidir://",
			p.path, m.Source.Reference, ref.Tagged()))
	}
	return nil
}

// write is the write function of entries: it runs under the lock.
func (p *place) write(ctx context.Context, batch []listing) []error {
	errs := make([]error, len(batch))
	fail := func(err error) []error {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
		return errs
	}
	root, err := p.stage.Root()
	if err != nil {
		return fail(err)
	}
	c, err := p.readCatalog(root)
	if err != nil {
		return fail(err)
	}
	d := c.draft()
	for i, l := range batch {
		errs[i] = p.writeOne(ctx, root, d, l)
	}
	if err := p.writeCatalog(ctx, root, d); err != nil {
		return fail(err)
	}
	return errs
}

// writeCatalog makes d's changes visible. d goes on from there.
func (p *place) writeCatalog(ctx context.Context, root *os.Root, d *draft) error {
	if !d.changed {
		return nil
	}
	raw, err := pythonJSON(d.catalog)
	if err == nil {
		err = p.stage.WriteFile(ctx, catalogFile, raw)
	}
	if err == nil {
		err = p.catalog.Wrote(root, raw, d.catalog)
	}
	if err != nil {
		return err
	}
	*d = *d.draft()
	return nil
}

func (p *place) writeOne(ctx context.Context, root *os.Root, d *draft, l listing) error {
	if err := p.check(root, d.catalog, l.id, l.ref); err != nil {
		return err
	}
	file, err := p.fileFor(ctx, root, d, l)
	if err != nil {
		return err
	}
	m := l.manifest
	if file != plainFile {
		m.ImageName = l.id.image
	}
	raw, err := m.encode()
	if err != nil {
		return err
	}
	if err := p.stage.WriteFile(ctx, file, raw); err != nil {
		return err
	}
	return d.set(l.id, file)
}

// fileFor chooses l's manifest file. In plain mode the images that manifest.json
// was before leave the catalog, and the user is told.
func (p *place) fileFor(ctx context.Context, root *os.Root, d *draft, l listing) (string, error) {
	if p.unique.Load() {
		return p.uniqueFile(ctx, root, d, l.id)
	}
	for _, i := range d.users(plainFile) {
		if i != l.id {
			d.remove(i)
		}
	}
	if old, err := readManifest(root, plainFile); err == nil && !old.isOf(l.id) {
		p.env.Warnf("%s/%s was %s and now is %s; unique_names=true keeps both", p.path, plainFile, old.says(), l.ref.Tagged())
	}
	return plainFile, nil
}

// uniqueFile gives the first of the images that would have one name that name,
// whichever came first, so that the same images make the same folder; the
// others get one with a hash.
func (p *place) uniqueFile(ctx context.Context, root *os.Root, d *draft, i id) (string, error) {
	plain, hashed := uniqueFiles(i)
	if plain == "" {
		return hashed, nil
	}
	users := d.users(plain)
	if len(users) == 0 {
		// A file that no catalog knows: what a killed run of this image left, or
		// somebody else's.
		m, err := readManifest(root, plain)
		if errors.Is(err, fs.ErrNotExist) || err == nil && m.isOf(i) {
			return plain, nil
		}
		return hashed, nil
	}
	if d.file(i) == plain && len(users) == 1 {
		return plain, nil
	}
	if len(users) > 1 || users[0].String() < i.String() {
		return hashed, nil
	}
	moved, err := p.moveAside(ctx, root, d, users[0])
	if err != nil || !moved {
		return hashed, err
	}
	return plain, nil
}

// moveAside gives i's manifest the name with a hash, if it is ours. At no time
// does the catalog name a file that isn't i's.
func (p *place) moveAside(ctx context.Context, root *os.Root, d *draft, i id) (bool, error) {
	file := d.file(i)
	m, err := readManifest(root, file)
	if err != nil || m.Source == nil || !m.isOf(i) {
		return false, nil
	}
	raw, err := m.encode()
	if err != nil {
		return false, err
	}
	_, hashed := uniqueFiles(i)
	if err := p.stage.WriteFile(ctx, hashed, raw); err != nil {
		return false, err
	}
	if err := d.set(i, hashed); err != nil {
		return false, err
	}
	if err := p.writeCatalog(ctx, root, d); err != nil {
		return false, err
	}
	return true, root.Remove(file)
}

// Finish removes what killed runs left, if this one has written nothing.
func (p *place) Finish(ctx context.Context) error {
	return oci.Wrap(p.stage.Sweep(ctx), "clean up", p.path, oci.Descriptor{})
}

func (p *place) Close() error {
	p.catalog.Close()
	return oci.Wrap(p.stage.Close(), "clean up", p.path, oci.Descriptor{})
}

// NameOf implements [oci.Namer]: the catalog has no registries.
func (p *place) NameOf(name oci.Ref) string {
	name.Registry = ""
	return name.Tagged()
}
