package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/oci"
)

// make makes all that is beside the layers, the plan last.
func (d *destination) make(ctx context.Context, p *plan) error {
	if err := d.folders(p); err != nil {
		return err
	}
	if err := d.links(p); err != nil {
		return err
	}
	if err := d.write(runspec.ImageConfig, d.config); err != nil {
		return err
	}
	if err := syncFS(d.dir); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	undo := func() error { return nil }
	if d.mount {
		var err error
		if undo, err = d.mountOnce(p); err != nil {
			return err
		}
	}
	err := d.describe(p)
	if err == nil {
		err = d.write(planName, p)
	}
	if err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

// describe writes config.json, which needs the whole root file system: it looks up
// the user there.
func (d *destination) describe(p *plan) error {
	if !d.mount {
		return nil
	}
	image, err := runspec.Parse(d.config)
	if err != nil {
		return err
	}
	spec, warned, err := runspec.Options{Hostname: runspec.DefaultHostname}.Make(image, filepath.Join(d.dir, p.Target))
	if errors.Is(err, oci.ErrInvalid) {
		d.env.Warnf("%s: there is no %s: %v", d.path, runspec.File, err) // the files are worth having
		return nil
	}
	if err != nil {
		return err
	}
	for _, w := range warned {
		d.env.Warnf("%s: %s", d.path, w)
	}
	raw, err := runspec.Encode(spec)
	if err != nil {
		return err
	}
	return d.write(runspec.File, raw)
}

// mountOnce mounts p unless it is mounted. undo unmounts what it mounted.
func (d *destination) mountOnce(p *plan) (undo func() error, err error) {
	at := filepath.Join(d.dir, p.Target)
	undo = func() error { return nil }
	switch is, err := mountedAt(at, p.Source); {
	case err != nil || is == mountOurs:
		return undo, err
	case is == mountOther:
		return undo, oci.Refuse(at + " is a mount point of something else; unmount it")
	}
	if err := mountOverlay(d.dir, p); err != nil {
		return undo, fmt.Errorf("mount at %s: %w", at, err)
	}
	return func() error { return unmount(at) }, nil
}

// folders makes those that the mount needs. What is in them is left: it is what
// was changed in rootfs.
func (d *destination) folders(p *plan) error {
	looks := filepath.Join(d.dir, p.LowerDirs[0])
	for _, name := range []string{emptyName, p.UpperDir, p.WorkDir, p.Target} {
		dir := filepath.Join(d.dir, name)
		if name == emptyName && p.LowerDirs[0] != emptyName {
			continue
		}
		switch err := extract.MakeRoot(dir); {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		}
		if name == p.UpperDir || name == p.Target {
			// The root directory of the mount looks as the upper folder does.
			if err := copyLooks(looks, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// links makes the short names of the layers.
func (d *destination) links(p *plan) error {
	dir := filepath.Join(d.dir, linksName)
	if err := errors.Join(extract.Remove(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	for i, l := range p.LowerDirs {
		if err := os.Symlink("../"+l, filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

// copyLooks gives the folder to owner, mode and time of the folder from.
func copyLooks(from, to string) error {
	fi, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if uid, gid, ok := ownerOf(fi); ok && os.Geteuid() == 0 {
		if err := os.Lchown(to, uid, gid); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(to, fi.Mode().Perm()|fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)), os.Chtimes(to, time.Time{}, fi.ModTime()))
}

// Verify reads config and plan again, looks at each entry of each layer, that it is
// one that was extracted, and at the mount. With full every file is read and
// compared with what was extracted. Of layers that an earlier run extracted the
// entries are counted.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return oci.Wrap(d.verify(ctx, full), "verify "+d.ref.String()+" in", d.path, root)
}

func (d *destination) verify(ctx context.Context, full bool) error {
	if d.root == nil {
		return fmt.Errorf("%w: there is no folder", oci.ErrNotFound)
	}
	p, err := readPlan(d.root)
	if err != nil {
		return err
	}
	switch {
	case p == nil:
		return fmt.Errorf("%s: %w", planName, oci.ErrNotFound)
	case d.plan != nil && (p.Config != d.plan.Config || p.Image != d.plan.Image || p.Source != d.plan.Source):
		return fmt.Errorf("%s: %w: it is of another image now", planName, oci.ErrDigestMismatch)
	}
	if err := d.whole(p); err != nil {
		return err
	}
	for _, l := range p.Layers {
		if err := d.verifyLayer(ctx, l, full); err != nil {
			return fmt.Errorf("%s: %w", layerOf(l.DiffID), err)
		}
	}
	return nil
}

func (d *destination) verifyLayer(ctx context.Context, l layerMark, full bool) error {
	sums := d.sums[l.DiffID]
	dir := filepath.Join(d.dir, layerOf(l.DiffID))
	var tree extract.Tree
	var err error
	if sums != nil {
		tree, err = sums.Check(ctx, dir, full)
	} else {
		tree, err = extract.Count(ctx, dir)
	}
	if err == nil && (tree.Entries != l.Entries || tree.Bytes != l.Bytes) {
		err = fmt.Errorf("%w: %d entries of %d bytes, %d of %d were extracted", oci.ErrDigestMismatch, tree.Entries, tree.Bytes, l.Entries, l.Bytes)
	}
	return err
}
