package extract

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// An Aside is a folder that is built beside its place, on the same file system,
// in a hidden folder .NAME.quaymaster-*, and is seen there only when it is whole.
// What a killed process left of one is removed by the next for the same place.
type Aside struct {
	path   string // where it is to be
	temp   string
	root   *os.Root // of temp
	lock   *lockfile.Lock
	made   []string // folders above path that weren't there, the nearest first
	placed bool
}

const (
	newFolder = "new"
	oldFolder = "old"
	lockName  = "lock"
)

// Begin begins the folder path. Folders above it are made.
func Begin(ctx context.Context, path string) (*Aside, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	a := &Aside{path: path}
	parent, name := filepath.Split(path)
	parent = filepath.Clean(parent)
	for dir := parent; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		a.made = append(a.made, dir)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	prefix := "." + name[:min(len(name), 200)] + ".quaymaster-"
	if err := sweep(parent, prefix); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	for a.lock == nil { // unless somebody took it for a dead one's in between
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := a.begin(filepath.Join(parent, prefix+strings.ToLower(rand.Text()[:12]))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, a.Reset()
}

func (a *Aside) begin(temp string) error {
	if a.root != nil {
		a.root.Close()
		a.root = nil
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(temp)
	if err != nil {
		return err
	}
	a.temp, a.root = temp, root
	a.lock, err = lockfile.Try(root, lockName)
	return err
}

// sweep removes what dead processes left.
func sweep(parent, prefix string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, d := range entries {
		if !d.IsDir() || !strings.HasPrefix(d.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, d.Name())
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue // gone, or somebody else's
		}
		if l, err := lockfile.Try(root, lockName); err == nil && l != nil {
			err = errors.Join(Remove(dir), l.Release())
			if err != nil {
				root.Close()
				return err
			}
		}
		root.Close()
	}
	return nil
}

// Dir is the folder to build in. It is there and empty at first, with mode 0755.
func (a *Aside) Dir() string { return filepath.Join(a.temp, newFolder) }

// Reset empties [Aside.Dir].
func (a *Aside) Reset() error {
	if err := Remove(a.Dir()); err != nil {
		return err
	}
	if err := a.root.Mkdir(newFolder, 0o755); err != nil {
		return err
	}
	return errors.Join(a.root.Chmod(newFolder, 0o755), a.root.Chtimes(newFolder, implied, implied)) // whatever the umask
}

// Place makes the folder durable, then visible at its place. What is there is
// removed with replace; without, the error matches [oci.ErrRefused] unless that
// is an empty folder.
func (a *Aside) Place(replace bool) error {
	if err := syncFS(a.temp); err != nil {
		return err
	}
	if err := a.place(replace); err != nil {
		return err
	}
	a.placed = true
	return syncFolders(append([]string{filepath.Dir(a.path)}, parents(a.made)...))
}

func (a *Aside) place(replace bool) error {
	err := rename(a.Dir(), a.path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("%s is a mount point: name a folder in it: %w", a.path, err)
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTDIR):
		return err
	case !replace:
		return oci.Refuse(a.path + " is there and isn't empty; nothing was changed")
	}
	err = exchange(a.Dir(), a.path)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EACCES) {
		return err
	}
	old := filepath.Join(a.temp, oldFolder)
	if err := rename(a.path, old); err != nil {
		return err
	}
	if err := rename(a.Dir(), a.path); err != nil {
		return errors.Join(err, rename(old, a.path))
	}
	return nil
}

// rename moves a folder, also one that its owner may not write: its parent is
// written in it.
func rename(from, to string) error {
	// os.Rename would not take the place of an empty folder.
	err := unix.Rename(from, to)
	fi, statErr := os.Lstat(from)
	if !errors.Is(err, fs.ErrPermission) || statErr != nil || !fi.IsDir() || fi.Mode()&0o200 != 0 {
		return linkError(from, to, err)
	}
	if err := os.Chmod(from, fi.Mode()|0o200); err != nil {
		return err
	}
	if err := unix.Rename(from, to); err != nil {
		return errors.Join(linkError(from, to, err), os.Chmod(from, fi.Mode()))
	}
	return os.Chmod(to, fi.Mode())
}

func linkError(from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// Close removes what has no place: the folder, or what it replaced.
func (a *Aside) Close() error {
	var err error
	if a.temp != "" {
		err = Remove(a.temp)
		a.temp = ""
	}
	if a.lock != nil {
		err = errors.Join(err, a.lock.Release())
		a.lock = nil
	}
	if a.root != nil {
		a.root.Close()
		a.root = nil
	}
	if !a.placed {
		for _, dir := range a.made {
			if os.Remove(dir) != nil { // somebody uses it
				break
			}
		}
	}
	return err
}

func parents(dirs []string) []string {
	var all []string
	for _, d := range dirs {
		all = append(all, filepath.Dir(d))
	}
	return all
}

func syncFolders(dirs []string) error {
	for _, name := range dirs {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}
