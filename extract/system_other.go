//go:build !linux

package extract

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const errNoAttr = unix.ENOATTR

func exchange(string, string) error { return unix.ENOSYS }

func syncFS(string) error { return syscall.Sync() }
