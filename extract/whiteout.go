package extract

import (
	"io/fs"
	"path"
	"time"
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
	if e.opt.Overlay {
		return e.hideBelow(rel)
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
	clear(e.dirs)
	if e.rootless {
		return e.fs.RemoveAll(e.abs(rel)) // also what it may not read
	}
	return e.root.RemoveAll(rel)
}

// keepTimes runs f, which changes the directory rel, and leaves its times as they
// were.
func (e *extractor) keepTimes(rel string, f func() error) error {
	st, err := e.fs.Lstatx(e.abs(rel))
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: rel, Err: err}
	}
	if err := f(); err != nil {
		return err
	}
	return e.fs.Lutimes(e.abs(rel), time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()))
}
