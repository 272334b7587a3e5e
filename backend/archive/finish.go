package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// Finish writes the archive, if what was committed changes it: into a file
// without a name, which is read back and takes the place of the one that is
// there. The error matches [oci.ErrRefused] where an image that is there can't be
// kept.
func (p *place) Finish(ctx context.Context) error {
	return oci.Wrap(p.finish(ctx), "write archive", p.path, oci.Descriptor{})
}

func (p *place) finish(ctx context.Context) (err error) {
	if p.stream {
		return p.pour(ctx)
	}
	if len(p.commits) == 0 && !p.overwrite {
		return nil
	}
	release, err := stage.Exclusive(ctx, p.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	is, err := os.Stat(p.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !stage.Same(is, p.was) { // another run has finished meanwhile
		if err := p.load(ctx); err != nil {
			return err
		}
	}
	list, err := p.list()
	if err != nil || len(list) == 0 {
		return err
	}
	if changed, err := p.changed(list); err != nil || !changed {
		return err
	}
	return stage.Replace(p.path, p.was, func(f *os.File) error {
		if err := p.writer.WriteTo(ctx, f, list); err != nil {
			return err
		}
		return p.readBack(ctx, f, list)
	})
}

// pour writes the archive into a pipe or a device, or at the end of what the
// shell has opened.
func (p *place) pour(ctx context.Context) error {
	list, err := p.list()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	return errors.Join(p.writer.WriteTo(ctx, f, list), f.Close())
}

// list gives the images that the archive is to have: those of this run, and
// those that are there and keep a name.
func (p *place) list() ([]dockersave.Entry, error) {
	var list []dockersave.Entry
	taken := map[oci.Ref]bool{}
	for _, e := range p.commits {
		list = append(list, e)
		for _, ref := range dockersave.Names(e) {
			taken[dockersave.Normal(ref)] = true
		}
	}
	if p.old == nil {
		return list, nil
	}
	kept := 0
	for _, i := range p.old.Images {
		tags, keep := p.remains(i, taken)
		if !keep {
			continue
		}
		id, err := i.ID()
		if err == nil && !p.writer.Adopt(i) {
			err = errors.New("its layers are compressed or missing")
		}
		if err != nil {
			return nil, oci.Refuse(fmt.Sprintf("%s has the image %s, which can't be kept: %v; name another file, or ?overwrite=true", p.path, label(i), err))
		}
		e, err := p.writer.Entry(id, tags, i.Source)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if i.Source == nil || !p.asked[i.Source.Reference] {
			kept++
		}
	}
	if kept > 0 {
		p.env.Warnf("%s: kept %d images that it had; ?overwrite=true drops them", p.path, kept)
	}
	return list, nil
}

// remains gives the names that i, which is there, has left when taken have new
// images, and reports whether it stays.
func (p *place) remains(i *dockersave.Image, taken map[oci.Ref]bool) (tags []string, keep bool) {
	if i.Source != nil {
		_, replaced := p.commits[i.Source.Reference]
		return i.RepoTags, !replaced && (!p.overwrite || p.asked[i.Source.Reference])
	}
	for _, ref := range i.Names {
		if !taken[dockersave.Normal(ref)] {
			tags = append(tags, ref.String())
		}
	}
	return tags, !p.overwrite && (len(tags) > 0 || len(i.Names) == 0)
}

func label(i *dockersave.Image) string {
	switch {
	case i.Source != nil:
		return i.Source.Reference
	case len(i.Names) > 0:
		return i.Names[0].String()
	}
	return i.Entry.Config
}

// changed reports whether the archive of list is another than the one that is
// there.
func (p *place) changed(list []dockersave.Entry) (bool, error) {
	if p.old == nil {
		return true, nil
	}
	var was []dockersave.Entry
	for _, i := range p.old.Images {
		was = append(was, i.Entry)
	}
	a, err := dockersave.Manifest(list)
	if err != nil {
		return false, err
	}
	b, err := dockersave.Manifest(was)
	return !bytes.Equal(a, b) || p.writer.New(list), err
}

// readBack reads the archive in f, which is not in its place yet, as thoroughly
// as was asked for.
func (p *place) readBack(ctx context.Context, f *os.File, list []dockersave.Entry) error {
	if !p.check {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	t, err := tarfile.Index(ctx, f, p.path) // not closed: f is the caller's
	if err != nil {
		return err
	}
	a, err := dockersave.Read(t)
	if err != nil {
		return err
	}
	if len(a.Images) != len(list) {
		return fmt.Errorf("%s: %w: it lists %d images, %d were written", dockersave.ManifestFile, oci.ErrDigestMismatch, len(a.Images), len(list))
	}
	seen := map[oci.Digest]bool{}
	for _, i := range a.Images {
		if !slices.ContainsFunc(list, func(e dockersave.Entry) bool {
			return e.Config == i.Entry.Config && slices.Equal(e.Layers, i.Entry.Layers)
		}) {
			return fmt.Errorf("%s: %w: %s was not written", dockersave.ManifestFile, oci.ErrDigestMismatch, label(i))
		}
		if err := reread(ctx, i, p.full, seen); err != nil {
			return err
		}
	}
	return nil
}
