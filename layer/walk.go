package layer

import (
	"context"
	"errors"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// Walk calls visit with each entry of the layer blob src, in order; a nil visit
// is not called. A body may be left unread, and is gone when visit returns. An
// error of visit ends the walk and is returned as it is.
//
// What src says is believed only when Walk has returned without an error: it
// reads src to its end, where src checks its digest. Then it also has the
// digest of the tar. Errors are as with [Open]; a tar that is damaged, or cut
// off within an entry, matches [oci.ErrInvalid] (one that lacks no more than its
// end marker, and the padding in front of it, is read); if src turns out not to have its digest,
// that is the error. The names are those of the tar: dots, slashes and control
// characters too.
func Walk(ctx context.Context, src io.Reader, opt Options, visit func(*oci.Entry) error) (Tar, error) {
	in, err := openEntries(ctx, src, opt)
	if err != nil {
		return Tar{}, settle(ctx, src, err)
	}
	defer in.close()
	for {
		e, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Tar{}, settle(ctx, src, err)
		}
		if visit == nil {
			continue
		}
		if err := visit(e); err != nil {
			return Tar{}, err
		}
	}
	t, err := in.finish()
	return t, settle(ctx, src, err)
}

// settle reads src to its end if err says that it is damaged: if src isn't what
// its digest says, then that is why.
func settle(ctx context.Context, src io.Reader, err error) error {
	if !errors.Is(err, oci.ErrInvalid) {
		return err
	}
	if _, drained := io.Copy(io.Discard, ctxReader{ctx, src}); errors.Is(drained, oci.ErrDigestMismatch) {
		return drained
	}
	return err
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
