package extract

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// hide applies a whiteout of name: what lower layers have there goes, what this
// layer has put, before or after, stays.
func (e *extractor) hide(name string) error {
	parent, base, err := e.split(name)
	if err != nil {
		return err
	}
	rel := path.Join(parent, base)
	if e.opt.Overlay {
		return e.makeHole(parent, rel)
	}
	fi, err := e.lstat(rel)
	switch {
	case err != nil || fi == nil:
		return err
	case !e.upper.has(rel):
		return e.keepTimes(parent, func() error { return e.remove(rel) })
	case fi.IsDir():
		return e.clear(rel)
	}
	return nil
}

// hideDir applies an opaque whiteout in the directory name.
func (e *extractor) hideDir(name string) error {
	rel, err := e.resolve(name)
	if err != nil {
		return err
	}
	switch {
	case e.opt.Overlay && rel == "":
		return e.hideAll()
	case e.opt.Overlay:
		if err := e.makeParents(rel); err != nil {
			return err
		}
		return e.setOpaque(rel)
	}
	fi, err := e.lstat(rel)
	if err != nil || !isDir(fi) {
		return err
	}
	return e.clear(rel)
}

// clear removes what the directory rel has from lower layers. However many
// whiteouts there are, each directory is read once in a layer.
func (e *extractor) clear(rel string) error {
	if e.done.has(rel) {
		return nil
	}
	names, err := e.fs.Readdir(e.abs(rel))
	if err != nil {
		return err
	}
	err = e.keepTimes(rel, func() error {
		for _, fi := range names {
			child := path.Join(rel, fi.Name())
			switch {
			case !e.upper.has(child):
				err = e.remove(child)
			case fi.IsDir():
				err = e.clear(child)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	e.done.add(rel)
	return err
}

// remove removes rel and all below it. Its parents are no links.
func (e *extractor) remove(rel string) error {
	if e.rootless {
		return e.fs.RemoveAll(e.abs(rel)) // also what it may not read
	}
	return e.root.RemoveAll(rel)
}

// keepTimes runs f, which changes the directory rel, and leaves its times as they
// were.
func (e *extractor) keepTimes(rel string, f func() error) error {
	fi, err := e.lstat(rel)
	if err != nil {
		return err
	}
	if fi == nil {
		return fmt.Errorf("%s: %w", rel, fs.ErrNotExist)
	}
	if err := f(); err != nil {
		return err
	}
	return e.fs.Lutimes(e.abs(rel), accessTime(fi), fi.ModTime())
}

// makeHole has overlayfs show nothing at rel, unless this layer has something
// there.
func (e *extractor) makeHole(parent, rel string) error {
	if e.opt.Lower != nil {
		if fi, err := e.lowerStat(rel); err != nil || fi == nil {
			return err
		}
	}
	if err := e.makeParents(parent); err != nil {
		return err
	}
	fi, err := e.lstat(rel)
	switch {
	case err != nil:
		return err
	case isDir(fi):
		return e.setOpaque(rel)
	case fi != nil:
		return nil
	}
	if e.steps++; e.steps > e.max {
		return fmt.Errorf("%w: over %d entries", oci.ErrTooLarge, e.max)
	}
	e.holes[rel] = struct{}{}
	e.opt.Sums.end(rel, tar.TypeChar, 0, nil)
	return e.keepTimes(parent, func() error {
		return e.fs.Mknod(e.abs(rel), unix.S_IFCHR|0o666, 0)
	})
}

// hideAll has overlayfs show nothing of lower layers. The roots of layers it merges
// always, so that each thing in them is hidden alone.
func (e *extractor) hideAll() error {
	if err := e.openLower(); err != nil {
		return err
	}
	for _, root := range e.lower {
		names, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			return err
		}
		for _, d := range names {
			if err := e.makeHole("", d.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// setOpaque has overlayfs show nothing of lower layers in the directory rel.
func (e *extractor) setOpaque(rel string) error {
	e.opaque[rel] = struct{}{}
	return e.fs.Lsetxattr(e.abs(rel), e.opaqueAttr(), []byte("y"), 0)
}

// closeHoles removes the whiteouts that lie in opaque directories: there is
// nothing for them to hide, and overlayfs would list them.
func (e *extractor) closeHoles() error {
	for rel := range e.holes {
		for dir := rel; dir != ""; {
			dir = parentOf(dir)
			if _, ok := e.opaque[dir]; !ok {
				continue
			}
			if err := e.keepTimes(filepath.Dir(rel), func() error { return e.remove(rel) }); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func accessTime(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*unixStat); ok {
		return time.Unix(st.Atim.Unix())
	}
	return fi.ModTime()
}
