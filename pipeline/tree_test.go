package pipeline

import (
	"context"
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// What an interrupt left out must not look done: a manifest would be put above
// blobs that aren't there.
func TestEachSaysThatItWasCutShort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := 0
	err := each(ctx, make([]oci.Descriptor, 5), 1, func(context.Context, int, oci.Descriptor) error {
		done++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || done == 5 {
		t.Errorf("got %v after %d of 5, want canceled before the end", err, done)
	}
}
