// Package spool makes files without a name: whatever ends the process, nothing
// of them is left behind.
package spool

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// New opens an empty file in folder dir that has no name there, or has lost it
// already. "" is [os.TempDir]. Errors of reading and writing call it what,
// spooled in dir. The space is free again after Close.
func New(dir, what string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	name := what + " (spooled in " + dir + ")"
	if f, err := nameless(dir, name); err == nil {
		return f, nil
	}
	f, err := named(dir, name)
	if err != nil {
		return nil, &fs.PathError{Op: "spool in", Path: dir, Err: bare(err)}
	}
	return f, nil
}

// named is for systems and file systems without [nameless].
func named(dir, name string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".quaymaster-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0) // under the other name
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func bare(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
