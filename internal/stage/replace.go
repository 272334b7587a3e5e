package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// Behind follows the links that path is, also to where there is nothing yet: what
// is replaced is the file, and not a link to it.
func Behind(path string) string {
	for range 40 { // as many as the system follows
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return real
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path // /proc/self/fd/1
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return path
		}
		path = filepath.Join(dir, filepath.Base(path))
		to, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return path
}

// Same reports whether a and b are one file in one state; nil is no file.
func Same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Exclusive keeps other runs from replacing the file path until release, and
// removes what a killed one left. The folder is made if it isn't there.
func Exclusive(ctx context.Context, path string) (release func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	lock, err := lockfile.Acquire(ctx, root, beside(path, ".lock"))
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	release = func() error { return errors.Join(lock.Remove(), root.Close()) }
	if err := root.Remove(beside(path, ".new")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// beside names a hidden file that belongs to path.
func beside(path, suffix string) string {
	name := filepath.Base(path)
	if len(name)+len(suffix) > 250 {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:])
	}
	return "." + name + suffix
}

// Replace makes the file path anew, with the permissions of the one that is
// there; the caller has it from [Exclusive]. write fills a file in the same
// folder; when that is on the disk, it gets the name. was is what Replace expects
// there: nil for nothing. If there is another file by then, made by somebody
// else, the error matches [oci.ErrRefused]. An error of write comes out as it is.
//
// A run that is killed leaves nothing behind where the file system knows files
// without a name, else a file .NAME.new until the next run.
func Replace(path string, was fs.FileInfo, write func(*os.File) error) error {
	return replace(path, was, write, nameless)
}

func replace(path string, was fs.FileInfo, write func(*os.File) error, nameless func(dir string) (*os.File, error)) error {
	dir, temp := filepath.Dir(path), filepath.Join(filepath.Dir(path), beside(path, ".new"))
	f, err := nameless(dir)
	hasName := err != nil
	if hasName {
		if f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return err
		}
	}
	defer f.Close()
	if was != nil {
		err = f.Chmod(was.Mode().Perm())
	}
	if err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unchanged(path, was)
	}
	if err == nil && !hasName {
		err = link(f, temp)
		hasName = err == nil
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		if hasName {
			_ = os.Remove(temp) // else the next run does
		}
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func unchanged(path string, was fs.FileInfo) error {
	is, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		is, err = nil, nil
	}
	if err != nil || Same(is, was) {
		return err
	}
	return oci.Refuse(fmt.Sprintf("%s was changed by another process meanwhile; run again", path))
}
