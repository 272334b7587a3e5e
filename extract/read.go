package extract

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/safepath"
)

// ReadFile reads the regular file name of the root file system in dir as the image
// sees it: links, absolute ones too, are followed within dir. Errors are as with
// [safepath.ReadFile]; what isn't there matches [fs.ErrNotExist].
func ReadFile(dir, name string, limit int64) ([]byte, error) {
	rel, _, e, err := look(dir, name)
	if err != nil {
		return nil, err
	}
	defer e.close()
	raw, _, err := safepath.ReadFile(e.root, rel, limit)
	if errors.Is(err, unix.ENOTDIR) {
		err = fs.ErrNotExist
	}
	return raw, err
}

// Stat describes name of the root file system in dir, as [ReadFile] finds it, and
// lists it if it is a folder.
func Stat(dir, name string) (fs.FileInfo, []fs.FileInfo, error) {
	rel, fi, e, err := look(dir, name)
	if err != nil {
		return nil, nil, err
	}
	defer e.close()
	if fi == nil || !fi.IsDir() {
		if fi == nil {
			err = fs.ErrNotExist
		}
		return fi, nil, err
	}
	list, err := e.fs.Readdir(e.abs(rel))
	return fi, list, err
}

// look resolves name, all of it. fi is nil for nothing.
func look(dir, name string) (rel string, fi fs.FileInfo, e *extractor, err error) {
	e, err = open(dir, Options{})
	if err != nil {
		return "", nil, nil, err
	}
	rel, _ = clean(name)
	rel, err = e.resolve(rel)
	if err == nil {
		fi, err = e.lstat(rel)
	}
	if err != nil {
		e.close()
		return "", nil, nil, err
	}
	if rel == "" {
		rel = "."
	}
	return rel, fi, e, nil
}

// MakeRoot makes the folder dir for a root file system: empty, 0755 whatever the
// umask, of 1970, until a layer has an entry for it.
func MakeRoot(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(os.Chmod(dir, 0o755), os.Chtimes(dir, implied, implied))
}
