// Package lockfile is an advisory lock between processes, and between
// goroutines of one: a file that is held by flock(2). The kernel lets go of it
// when its holder dies, so a lock is never stale.
//
// It needs a file system with flock: all local ones, NFS from version 4 on.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Lock is a lock that is held.
type Lock struct {
	root *os.Root
	name string
	file *os.File
}

// longestNap bounds how late a waiter learns that a lock is free.
const longestNap = 20 * time.Millisecond

// Acquire waits for the lock file name beneath root, making the file if there
// is none. It gives up when ctx ends, with the context's cause.
func Acquire(ctx context.Context, root *os.Root, name string) (*Lock, error) {
	nap := time.Millisecond
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("wait for lock %s: %w", name, err)
		}
		l, err := Try(root, name)
		if l != nil || err != nil {
			return l, err
		}
		timer := time.NewTimer(nap)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		nap = min(2*nap, longestNap)
	}
}

// Try is [Acquire] without the wait: nil and no error if another has the lock.
func Try(root *os.Root, name string) (*Lock, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	held, err := flock(f)
	if err == nil && held {
		// Whoever held the lock before may have removed the file: then this one
		// locks nothing, and it is to be tried again.
		held, err = current(root, name, f)
	}
	if err != nil || !held {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{root, name, f}, nil
}

func flock(f *os.File) (held bool, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	if err := conn.Control(func(fd uintptr) {
		for ok := true; ok; ok = errors.Is(lockErr, unix.EINTR) {
			lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		}
	}); err != nil {
		return false, err
	}
	if errors.Is(lockErr, unix.EWOULDBLOCK) {
		return false, nil
	}
	if lockErr != nil {
		return false, &fs.PathError{Op: "flock", Path: f.Name(), Err: lockErr}
	}
	return true, nil
}

func current(root *os.Root, name string, f *os.File) (bool, error) {
	named, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(named, held), nil
}

// Release lets go of the lock. The file stays.
func (l *Lock) Release() error { return l.file.Close() }

// Remove removes the file, then lets go of the lock.
func (l *Lock) Remove() error {
	return errors.Join(l.root.Remove(l.name), l.file.Close())
}
