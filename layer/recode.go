package layer

import (
	"context"
	"errors"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// Recode writes the layer d to w as opt.Codec compresses it: from src, its blob,
// which checks its digest at its end. The tar stays the same, byte for byte, and
// so does the diffID; nobody looks into it. It streams, and for the same tar
// gives the same bytes, whatever src was compressed with.
//
// Only without an error is what w got a layer. Errors are as with [Open], and
// those of src and w come out as they are; if src turns out not to have its
// digest, that is the error. Of the result Entries is 0, since none were
// counted, and Unchanged says that src was compressed with that codec before.
// An empty opt.Codec means the one that src has, and compresses it anew.
func Recode(ctx context.Context, w io.Writer, src io.Reader, d oci.Descriptor, opt PassOptions) (_ Rewritten, err error) {
	if err := context.Cause(ctx); err != nil {
		return Rewritten{}, err
	}
	r, err := Open(src, opt.Limits)
	if err != nil {
		return Rewritten{}, settle(ctx, src, err)
	}
	defer r.Close()
	codec := opt.Codec
	if codec == "" {
		codec = r.Codec()
	}
	blob := newSum(w, opt.Spare&SpareBlob != 0)
	enc, err := codec.encoder(blob)
	if err != nil {
		return Rewritten{}, err
	}
	defer func() {
		if err != nil {
			enc.abort()
		}
	}()
	tar := newSum(enc, false)
	if err := copyTar(ctx, tar, r); err != nil {
		if !tar.failed { // else src has nothing to do with it
			err = settle(ctx, src, err)
		}
		return Rewritten{}, err
	}
	if err := enc.Close(); err != nil {
		return Rewritten{}, err
	}
	id := tar.digest()
	return Rewritten{
		Desc: describe(d, codec, blob), DiffID: id, TarSize: tar.n, Unchanged: codec == r.Codec(),
		Source: Tar{DiffID: id, Size: tar.n, Codec: r.Codec()},
	}, nil
}

// copyTar copies r to w, to its end.
func copyTar(ctx context.Context, w io.Writer, r *Reader) error {
	buf := make([]byte, 64<<10)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
