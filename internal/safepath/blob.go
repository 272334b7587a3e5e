package safepath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/quaymaster/quaymaster/oci"
)

// OpenBlob opens the file name beneath root, which holds blob d. The reader
// fails with [oci.ErrDigestMismatch] if the bytes are not d's, and with ctx's
// cause once ctx has ended. A file that isn't there matches [oci.ErrNotFound]; a
// size other than d's, if that is known, is told at once.
func OpenBlob(ctx context.Context, root *os.Root, name string, d oci.Descriptor) (io.ReadCloser, error) {
	f, fi, err := Open(root, name)
	if err != nil {
		return nil, Missing(err)
	}
	if d.Size >= 0 && fi.Size() != d.Size {
		return nil, errors.Join(fmt.Errorf("%s: %w: %d bytes, its descriptor says %d", name, oci.ErrDigestMismatch, fi.Size(), d.Size), f.Close())
	}
	return oci.Verify(Within(ctx, f), d), nil
}

// Missing says [oci.ErrNotFound] of a file that isn't there, and leaves other
// errors as they are.
func Missing(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no file %s", oci.ErrNotFound, p.Path)
	}
	return err
}

// Within gives rc, whose reads fail with ctx's cause once ctx has ended.
func Within(ctx context.Context, rc io.ReadCloser) io.ReadCloser { return &within{ctx, rc} }

type within struct {
	ctx context.Context
	io.ReadCloser
}

func (w *within) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.ReadCloser.Read(p)
}
