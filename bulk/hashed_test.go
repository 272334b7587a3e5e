package bulk_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

// careful counts the layers whose content doesn't check itself on its way to
// the place: that would be hashed twice.
type careful struct {
	oci.Target
	put, unchecked *atomic.Int64
}

func (c careful) SharedBlobs() bool { return true }

func (c careful) Image(ctx context.Context, name oci.Ref) (oci.Destination, error) {
	d, err := c.Target.Image(ctx, name)
	return carefulImage{d, c}, err
}

type carefulImage struct {
	oci.Destination
	of careful
}

func (c carefulImage) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if b.Layer < 0 { // a config may come from memory
		return c.Destination.PutBlob(ctx, b)
	}
	rc, err := b.Open(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	c.of.put.Add(1)
	if !oci.Checks(rc, b.Desc.Digest) {
		c.of.unchecked.Add(1)
	}
	if err := rc.Close(); err != nil {
		return oci.Descriptor{}, err
	}
	return c.Destination.PutBlob(ctx, b)
}

// TestContentIsHashedOnce: from a registry into a layout, and from there on,
// what a run wraps around a source's readers hides no check.
func TestContentIsHashedOnce(t *testing.T) {
	const n = 3
	middle := t.TempDir() + "/x"
	for _, hop := range []struct {
		name string
		src  backend.Images
		dst  string
	}{
		{"registry to ocidir", organisation(t, n), "ocidir://" + middle},
		{"ocidir to ocidir", nil, "ocidir://" + t.TempDir() + "/x"},
	} {
		if hop.src == nil {
			u, err := backend.ParseURI("ocidir://" + middle)
			if err == nil {
				hop.src, err = ocidir.Kind.Source(t.Context(), u, backend.Env{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c := careful{openTarget(t, hop.dst, backend.Env{}), new(atomic.Int64), new(atomic.Int64)}
		t.Cleanup(func() {
			if err := hop.src.Close(); err != nil {
				t.Error(err)
			}
		})
		r := mustCopy(t, hop.src, c, bulk.Options{})
		if r.Totals.Copied != n || c.put.Load() == 0 || c.unchecked.Load() != 0 {
			t.Errorf("%s: %d images, %d of %d layers come unchecked", hop.name, r.Totals.Copied, c.unchecked.Load(), c.put.Load())
		}
	}
}
