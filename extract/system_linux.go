package extract

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// errNoAttr says that a file lacks an extended attribute.
const errNoAttr = unix.ENODATA

// exchange has two folders change places in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// syncFS has all that was written to dir's file system on the disk: one call for
// any number of files.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
