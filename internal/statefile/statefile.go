// Package statefile keeps files that runs leave for later runs, and that several
// processes may share: each is read as a whole, and replaced as a whole under a
// lock, so that nobody's additions are lost and a killed run leaves the file that
// was there.
package statefile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// Read gives the file at path to do. A file that isn't there is empty. Past most
// bytes reading fails with an error matching [oci.ErrTooLarge].
func Read(path string, most int64, do func(io.Reader) error) error {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return do(bytes.NewReader(nil))
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return do(&bounded{bufio.NewReaderSize(in, 64<<10), most, most})
}

// A bounded reader fails past most bytes.
type bounded struct {
	r          io.Reader
	left, most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: over %d bytes", oci.ErrTooLarge, b.most)
	}
	return n, err
}

// Update holds the lock of the file at path, PATH.lock, reads the file as [Read]
// does, and calls write with what is to take its place, unless read says that
// nothing changes. It waits for the lock as long as ctx allows.
func Update(ctx context.Context, path string, most int64, read func(io.Reader) (changed bool, err error), write func(io.Writer) error) (err error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	lock, err := lockfile.Acquire(ctx, root, filepath.Base(path)+".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	changed := false
	if err := Read(path, most, func(r io.Reader) (err error) { changed, err = read(r); return err }); err != nil || !changed {
		return err
	}
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	w := bufio.NewWriterSize(out, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
