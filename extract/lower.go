package extract

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lowerDir is the header of the directory rel as the layers below have it.
func (e *extractor) lowerDir(rel string) (*tar.Header, error) {
	h := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: implied}
	root, fi, err := e.findLower(rel)
	if err != nil || !isDir(fi) {
		return h, err
	}
	return e.headerOf(root.Name()+"/"+rel, fi)
}

// lowerStat gives what the layers below show at rel, nil for nothing.
func (e *extractor) lowerStat(rel string) (fs.FileInfo, error) {
	_, fi, err := e.findLower(rel)
	return fi, err
}

// findLower gives what the layers below show at rel, and the layer that has it; fi
// is nil for nothing.
func (e *extractor) findLower(rel string) (root *os.Root, fi fs.FileInfo, err error) {
	if rel == "" {
		return nil, nil, nil
	}
	roots, err := e.lowerWith(parentOf(rel))
	if err != nil {
		return nil, nil, err
	}
	for _, root := range roots {
		fi, err := root.Lstat(rel)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, nil, err
		case isHole(fi):
			return nil, nil, nil
		}
		return root, fi, nil
	}
	return nil, nil, nil
}

// lowerWith gives the layers below that have a part in the directory dir. What it
// found last it remembers: entries lie side by side.
func (e *extractor) lowerWith(dir string) ([]*os.Root, error) {
	if e.partsOf == dir && e.parts != nil {
		return e.parts, nil
	}
	if err := e.openLower(); err != nil {
		return nil, err
	}
	parts := []*os.Root{}
	for _, root := range e.lower {
		has, ends, err := e.lookIn(root, dir)
		if err != nil {
			return nil, err
		}
		if has {
			parts = append(parts, root)
		}
		if ends {
			break
		}
	}
	e.partsOf, e.parts = dir, parts
	return parts, nil
}

// headerOf describes the file name, attributes too.
func (e *extractor) headerOf(name string, fi fs.FileInfo) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return nil, err
	}
	h.AccessTime, h.ChangeTime = h.ModTime, h.ModTime
	attrs, err := e.fs.Llistxattr(name)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return nil, err
	}
	h.Xattrs = map[string]string{} //nolint:staticcheck // umoci reads them here
	for _, a := range attrs {
		if strings.HasPrefix(a, "trusted.overlay.") || strings.HasPrefix(a, "user.overlay.") || a == "user.rootlesscontainers" {
			continue
		}
		v, err := e.fs.Lgetxattr(name, a)
		if err != nil {
			return nil, err
		}
		h.Xattrs[a] = string(v) //nolint:staticcheck // as above
	}
	return h, nil
}

// lookIn looks for the directory dir in one layer. ends says that what layers below
// have there doesn't matter.
func (e *extractor) lookIn(root *os.Root, dir string) (has, ends bool, err error) {
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		fi, err := root.Lstat(dir[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, ends, nil
		case err != nil:
			return false, false, err
		case !fi.IsDir():
			return false, true, nil
		}
		if ends, err = e.isOpaque(root, dir[:i], ends); err != nil {
			return false, false, err
		}
	}
	return true, ends, nil
}

// isOpaque reports whether rel hides what is below, or was says so already.
func (e *extractor) isOpaque(root *os.Root, rel string, was bool) (bool, error) {
	if was {
		return true, nil
	}
	v, err := e.fs.Lgetxattr(root.Name()+"/"+rel, e.opaqueAttr())
	switch {
	case err == nil:
		return string(v) == "y", nil
	case errors.Is(err, errNoAttr), errors.Is(err, unix.ENOTSUP):
		return false, nil
	}
	return false, err
}

func device(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*unixStat); ok {
		return uint64(st.Rdev) //nolint:gosec,unconvert // other systems have other types
	}
	return 0
}

func (e *extractor) openLower() error {
	for _, name := range e.opt.Lower[len(e.lower):] {
		root, err := os.OpenRoot(name)
		if err != nil {
			return err
		}
		e.lower = append(e.lower, root)
	}
	return nil
}

func (e *extractor) close() {
	for _, root := range append(e.lower, e.root) {
		_ = root.Close() // only looked at, or written through
	}
}

// parentOf gives the directory of rel, "" for the root.
func parentOf(rel string) string { return rel[:max(strings.LastIndexByte(rel, '/'), 0)] }
