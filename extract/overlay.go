package extract

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// An overlay is what one layer hides of those below, for overlayfs. Directories are
// made on the way to a whiteout; what of that turns out to be needless is gone at
// the end.
type overlay struct {
	holes    map[string]struct{} // whiteouts
	opaque   map[string]struct{} // opaque directories
	scaffold map[string]struct{} // directories made for whiteouts
	whole    map[string]struct{} // of these, what is to be hidden itself
	all      bool                // the root directory is opaque
}

func newOverlay() overlay {
	return overlay{holes: map[string]struct{}{}, opaque: map[string]struct{}{}, scaffold: map[string]struct{}{}, whole: map[string]struct{}{}}
}

// makeHole has overlayfs show nothing at rel, unless this layer has something
// there.
func (e *extractor) makeHole(parent, rel string) error {
	if needless, err := e.hidesNothing(rel); needless || err != nil {
		return err
	}
	if err := e.makeParents(parent, true); err != nil {
		return err
	}
	fi, err := e.lstat(rel)
	switch {
	case err != nil:
		return err
	case isDir(fi):
		if _, ok := e.over.scaffold[rel]; ok {
			e.over.whole[rel] = struct{}{}
		}
		return e.setOpaque(rel)
	case fi != nil:
		return nil
	}
	if e.steps++; e.steps > e.max {
		return fmt.Errorf("%w: over %d entries", oci.ErrTooLarge, e.max)
	}
	return e.mknod(rel)
}

func (e *extractor) mknod(rel string) error {
	e.over.holes[rel] = struct{}{}
	e.opt.Sums.end(rel, tar.TypeChar, 0, nil)
	return e.keepTimes(parentOf(rel), func() error {
		return e.fs.Mknod(e.abs(rel), unix.S_IFCHR|0o666, 0)
	})
}

// hidesNothing reports whether rel lies behind a file or a whiteout of this layer,
// or nothing below has it.
func (e *extractor) hidesNothing(rel string) (bool, error) {
	for i := range len(rel) {
		if rel[i] != '/' {
			continue
		}
		fi, err := e.lstat(rel[:i])
		if err != nil || fi != nil && !fi.IsDir() {
			return true, err
		}
		if fi == nil {
			break
		}
	}
	if e.opt.Lower == nil {
		return false, nil
	}
	fi, err := e.lowerStat(rel)
	return fi == nil, err
}

// hideBelow has overlayfs show nothing of lower layers in the directory rel, if
// this layer has nothing else there.
func (e *extractor) hideBelow(rel string) error {
	if rel == "" {
		return e.hideAll()
	}
	if _, ok := e.over.opaque[rel]; ok {
		return nil
	}
	if needless, err := e.hidesNothing(rel); needless || err != nil {
		return err
	}
	fi, err := e.lstat(rel)
	if err != nil || fi != nil && !fi.IsDir() {
		return err
	}
	if e.opt.Lower != nil {
		if fi, err := e.lowerStat(rel); err != nil || !isDir(fi) {
			return err
		}
	}
	if err := e.makeParents(rel, true); err != nil {
		return err
	}
	return e.setOpaque(rel)
}

// hideAll has overlayfs show nothing of lower layers. The roots of layers it merges
// always, so that each thing in them is hidden alone.
func (e *extractor) hideAll() error {
	if e.over.all {
		return nil
	}
	e.over.all = true
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
	e.over.opaque[rel] = struct{}{}
	return e.fs.Lsetxattr(e.abs(rel), e.opaqueAttr(), []byte("y"), 0)
}

// finish removes the whiteouts that lie in opaque directories, and directories that
// were made for them alone: there is nothing for them to hide, and overlayfs would
// list them.
func (e *extractor) finish() error {
	for rel := range e.over.holes {
		if e.inOpaque(rel) {
			if err := e.keepTimes(parentOf(rel), func() error { return e.remove(rel) }); err != nil {
				return err
			}
		}
	}
	dirs := slices.SortedFunc(maps.Keys(e.over.scaffold), func(a, b string) int { return len(b) - len(a) }) // the deepest first
	for _, rel := range dirs {
		if err := e.takeDown(rel); err != nil {
			return err
		}
	}
	return nil
}

// takeDown removes the directory rel, which was made for whiteouts, if it is of no
// use.
func (e *extractor) takeDown(rel string) error {
	_, whole := e.over.whole[rel]
	within := e.inOpaque(rel)
	fi, err := e.lstat(rel)
	if err != nil || !isDir(fi) || !whole && !within {
		return err
	}
	names, err := e.fs.Readdir(e.abs(rel))
	if err != nil || len(names) > 0 {
		return err
	}
	err = e.keepTimes(parentOf(rel), func() error { return e.remove(rel) })
	if err != nil || within {
		return err
	}
	return e.mknod(rel)
}

// inOpaque reports whether a directory above rel hides what is below.
func (e *extractor) inOpaque(rel string) bool {
	for rel != "" {
		rel = parentOf(rel)
		if _, ok := e.over.opaque[rel]; ok {
			return true
		}
	}
	return false
}

// isHole reports whether fi, which may be nil, is a whiteout of overlayfs.
func isHole(fi fs.FileInfo) bool {
	return fi != nil && fi.Mode()&fs.ModeCharDevice != 0 && device(fi) == 0
}

func (e *extractor) opaqueAttr() string {
	if e.rootless {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// copyUp has this layer have what a layer below has at rel, as overlayfs does for a
// hard link to it: it is the same file, which nobody writes to. What isn't there, or
// is a directory, stays so.
func (e *extractor) copyUp(rel string) error {
	fi, err := e.lstat(rel)
	if err != nil || fi != nil {
		return err
	}
	from, fi, err := e.findLower(rel)
	if err != nil || fi == nil || fi.IsDir() {
		return err
	}
	if err := e.makeParents(parentOf(rel), false); err != nil {
		return err
	}
	if e.steps++; e.steps > e.max {
		return fmt.Errorf("%w: over %d entries", oci.ErrTooLarge, e.max)
	}
	err = e.keepTimes(parentOf(rel), func() error { return e.fs.Link(from.Name()+"/"+rel, e.abs(rel)) })
	if err != nil {
		return &os.LinkError{Op: "link", Old: from.Name() + "/" + rel, New: e.abs(rel), Err: err}
	}
	e.upper.addAll(rel)
	e.opt.Sums.set(rel, put{flag: tar.TypeLink})
	return nil
}
