package stage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// Replace makes the file path anew. write fills a file in the same folder; when
// that is on the disk, it gets the name. was is what Replace expects there: nil
// for nothing. If there is another file by then, made by somebody else, the error
// matches [oci.ErrRefused].
//
// A run that is killed leaves nothing behind where the file system knows files
// without a name, else a file .quaymaster-*. The folder must be there. An error
// of write comes out as it is.
func Replace(path string, was fs.FileInfo, write func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, temp, err := nameless(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unchanged(path, was)
	}
	if err == nil && temp == "" {
		temp = filepath.Join(dir, ".quaymaster-"+rand.Text()[:12])
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		if temp != "" {
			_ = os.Remove(temp)
		}
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// nameless opens a new file for reading and writing in dir. temp is "" if it has
// no name yet.
func nameless(dir string) (f *os.File, temp string, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "(new file)")), "", nil
	}
	temp = filepath.Join(dir, ".quaymaster-"+rand.Text()[:12])
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	return f, temp, err
}

func unchanged(path string, was fs.FileInfo) error {
	is, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && was == nil, err == nil && was != nil && os.SameFile(is, was) && is.ModTime().Equal(was.ModTime()):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return oci.Refuse(fmt.Sprintf("%s was changed by another process meanwhile; run again", path))
}
