package registry

import (
	"context"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// An opening is content that is opened while the registry is asked whether it
// takes it: two round trips at once. What was opened and is not wanted is kept for
// the upload's next attempt, so that the source is read once all the same.
type opening struct {
	done   chan struct{} // closed once rc and err are set
	rc     io.ReadCloser
	err    error
	cancel context.CancelFunc // of the context that rules rc
}

// open begins to open b. ctx is the whole upload's, not an attempt's.
func open(ctx context.Context, b oci.Blob) *opening {
	o := &opening{done: make(chan struct{})}
	ctx, o.cancel = context.WithCancel(ctx)
	go func() {
		defer close(o.done)
		o.rc, o.err = b.Open(ctx)
	}()
	return o
}

// close gives up what was opened and waits until that is done.
func (o *opening) close() {
	o.cancel()
	if <-o.done; o.rc != nil {
		_ = o.rc.Close() // nobody has read of it
	}
}
