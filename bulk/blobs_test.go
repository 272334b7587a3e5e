package bulk_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

// A transfer that fails for the image that asked first is begun again for one
// that waits.
func TestWaitingImageTakesOver(t *testing.T) {
	src, near := organisation(t, 6), newFar(t)
	var failed atomic.Bool
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return isBlob(r, bases[0].Desc.Digest) && failed.CompareAndSwap(false, true) && notFound(w)
	})
	r, err := bulk.Copy(t.Context(), src, near.target(t), bulk.Options{Name: near.to, Images: 6})
	if !errors.Is(err, oci.ErrNotFound) || r.Totals.Failed != 1 || r.Totals.Copied != 5 {
		t.Fatalf("got %v and %+v, want one failure of six", err, r.Totals)
	}
	reads := blobReads(src.log())
	if got := reads[string(bases[0].Desc.Digest)]; got != 2 {
		t.Errorf("the base was asked for %d times, want the failure and one more", got)
	}
}

// A blob whose bytes are wrong is not tried for every image there is.
func TestBrokenBlobIsGivenUp(t *testing.T) {
	src := organisation(t, 10)
	wrong := make([]byte, bases[0].Desc.Size)
	var reads atomic.Int64
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, bases[0].Desc.Digest) {
			return false
		}
		reads.Add(1)
		_, _ = w.Write(wrong)
		return true
	})
	r, err := bulk.Copy(t.Context(), src, layout(t), bulk.Options{Images: 1})
	if !errors.Is(err, oci.ErrDigestMismatch) || r.Totals.Failed != 10 {
		t.Fatalf("got %v and %+v, want ten failures", err, r.Totals)
	}
	if perTransfer := reads.Load() / 3; perTransfer > 4 {
		t.Errorf("%d reads of a broken blob for ten images", reads.Load())
	}
}
