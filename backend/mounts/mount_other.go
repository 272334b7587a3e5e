//go:build !linux

package mounts

import (
	"errors"
	"io/fs"
)

// Nothing of this is reached: the target is refused before.
var errNotLinux = errors.New("overlayfs is Linux's")

func mayMount() bool                              { return false }
func tryOverlay(string) error                     { return errNotLinux }
func tryUpper(string) error                       { return errNotLinux }
func bootID() (string, error)                     { return "", errNotLinux }
func ownerOf(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }
func syncFS(string) error                         { return errNotLinux }
func mountOverlay(string, *plan) error            { return errNotLinux }
func unmount(string) error                        { return errNotLinux }
func mountedAt(string, string) (mounted, error)   { return mountNone, errNotLinux }
