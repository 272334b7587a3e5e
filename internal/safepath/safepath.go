// Package safepath reads files beneath a folder whose content others made: no
// link leads out of the folder, nothing but a regular file is opened, and what
// is read into memory has a limit. That a path stays beneath the folder is
// [os.Root]'s work.
package safepath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// Stat describes the regular file name beneath root. Links are followed within
// root. What is no regular file is an error matching [oci.ErrInvalid]: to open
// a pipe would block.
func Stat(root *os.Root, name string) (fs.FileInfo, error) {
	fi, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: %s where a file should be", name, oci.ErrInvalid, kind(fi.Mode()))
	}
	return fi, nil
}

func kind(m fs.FileMode) string {
	if m.IsDir() {
		return "a folder"
	}
	return "a special file"
}

// Open opens the regular file name beneath root for reading, as [Stat] does.
func Open(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	if _, err := Stat(root, name); err != nil {
		return nil, nil, err
	}
	// Not blocking: it may be a pipe by now.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: %s where a file should be", name, oci.ErrInvalid, kind(fi.Mode()))
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

// ReadFile reads the regular file name beneath root, with its state of that
// moment. Over limit bytes it returns an error matching [oci.ErrTooLarge].
func ReadFile(root *os.Root, name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, fi, err := Open(root, name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(raw)) > limit {
		return nil, nil, fmt.Errorf("%s: %w: over %d bytes", name, oci.ErrTooLarge, limit)
	}
	return raw, fi, nil
}

// Component returns an error matching [oci.ErrInvalid] unless s can be the
// name of one file: no separators, no "..", no control characters, at most 255
// bytes.
func Component(s string) error {
	switch {
	case s == "" || s == "." || s == "..",
		len(s) > 255,
		strings.ContainsAny(s, `/\`),
		strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("file name %q: %w", s, oci.ErrInvalid)
	}
	return nil
}
