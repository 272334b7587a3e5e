package filetree

import (
	"context"
	"errors"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// Once keeps what was made for each key, so that it is made once however many
// ask for it. The zero value is ready; it is safe for concurrent use.
type Once[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done  chan struct{} // closed once the rest is set
	value V
	err   error
	again bool // it failed for a reason of who asked, not of the content
}

// Get gives what do makes for key, from an earlier call if there was one. If
// that call failed because of the content, its error is everyone's; if it
// failed for another reason (another repository may have the blob) whoever asks
// next, or waits, tries its own do.
func (o *Once[K, V]) Get(ctx context.Context, key K, do func() (V, error)) (V, error) {
	for {
		o.mu.Lock()
		if o.calls == nil {
			o.calls = map[K]*call[V]{}
		}
		c, ok := o.calls[key]
		if !ok {
			c = &call[V]{done: make(chan struct{})}
			o.calls[key] = c
		}
		o.mu.Unlock()
		if !ok {
			o.run(ctx, key, c, do)
			return c.value, c.err
		}
		select {
		case <-c.done:
			if !c.again {
				return c.value, c.err
			}
		case <-ctx.Done():
			var zero V
			return zero, context.Cause(ctx)
		}
	}
}

func (o *Once[K, V]) run(ctx context.Context, key K, c *call[V], do func() (V, error)) {
	defer close(c.done)
	if c.value, c.err = do(); c.err != nil && (!ofContent(c.err) || ctx.Err() != nil) {
		// Of a ctx that ended the error may be what ended it, about other content.
		c.again = true
		o.Forget(key)
	}
}

// ofContent reports whether err would come again wherever the same blob is read.
func ofContent(err error) bool {
	for _, kind := range []error{oci.ErrDigestMismatch, oci.ErrInvalid, oci.ErrTooLarge, oci.ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Forget lets go of what was made for key.
func (o *Once[K, V]) Forget(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.calls, key)
}
