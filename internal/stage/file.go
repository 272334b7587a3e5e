package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// WriteFile replaces the file name by data and returns when that is durable:
// readers see the old bytes or the new ones, also after a loss of power.
func (s *Stage) WriteFile(ctx context.Context, name string, data []byte) error {
	root, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	err = writeFile(root, s.runFolder(), name, data)
	return oci.Wrap(err, "write", path.Join(s.path, name), oci.Descriptor{})
}

func writeFile(root *os.Root, run, name string, data []byte) error {
	f, temp, err := create(root, run)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(root, temp, name)
	}
	if err != nil {
		_ = root.Remove(temp) // the run folder goes at Close
		return bare(err)
	}
	return syncFolders(root, path.Dir(name))
}

func (s *Stage) runFolder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// create makes a new file in the run folder, which is "" after Close.
func create(root *os.Root, run string) (*os.File, string, error) {
	if run == "" {
		return nil, "", fs.ErrClosed
	}
	name := run + "/" + rand.Text()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	return f, name, bare(err)
}

// Sync makes the names in folders durable: [Stage.Put] has its file's bytes on
// the disk, and leaves the name to be synced for many files at once. A folder
// that doesn't exist is passed over.
func (s *Stage) Sync(folders ...string) error {
	root, err := s.Root()
	if err != nil {
		return err
	}
	return syncFolders(root, folders...)
}

func syncFolders(root *os.Root, folders ...string) error {
	for _, name := range folders {
		d, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Size gives the bytes of the file name, -1 if there is no such regular file.
func (s *Stage) Size(name string) (int64, error) {
	root, err := s.Root()
	if err == nil {
		var fi fs.FileInfo
		if fi, err = safepath.Stat(root, name); err == nil {
			return fi.Size(), nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, oci.ErrInvalid) {
		err = nil
	}
	return -1, err
}
