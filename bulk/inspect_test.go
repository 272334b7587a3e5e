package bulk_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

func TestInspectInListingOrder(t *testing.T) {
	src := organisation(t, 12)
	release := make(chan struct{})
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/org/app-00/manifests/"):
			<-release // the first is the slowest, and the others don't wait for it
		case strings.Contains(r.URL.Path, "/org/app-10/manifests/"):
			close(release)
		case strings.Contains(r.URL.Path, "/org/app-05/manifests/"):
			return notFound(w)
		}
		return false
	})
	i := 0
	for info, err := range bulk.Inspect(t.Context(), src, bulk.Options{}) {
		if want := src.items[i].Ref; info.Ref != want {
			t.Errorf("number %d is %s, want %s", i, info.Ref, want)
		}
		if failed := errors.Is(err, oci.ErrGone); failed != (i == 5) {
			t.Errorf("number %d: %v", i, err)
		}
		if err == nil && info.LayerCount != 4 {
			t.Errorf("number %d has %d layers", i, info.LayerCount)
		}
		i++
	}
	if i != 12 {
		t.Errorf("%d images, want 12", i)
	}
}

func TestInspectStopsWhenNobodyListens(t *testing.T) {
	src := organisation(t, 30)
	for range bulk.Inspect(t.Context(), src, bulk.Options{Images: 2}) {
		break
	}
	if src.given > 20 {
		t.Errorf("%d images were taken from the listing for one answer", src.given)
	}
}

func TestInspectListingError(t *testing.T) {
	src := organisation(t, 2)
	src.err = errors.New("page 2 is not to be had")
	var errs []error
	for info, err := range bulk.Inspect(t.Context(), src, bulk.Options{}) {
		if err != nil {
			errs = append(errs, err)
			if info.Ref.Repository != "" {
				t.Errorf("the listing's error came with %s", info.Ref)
			}
		}
	}
	if len(errs) != 1 || !errors.Is(errs[0], oci.ErrIncomplete) {
		t.Errorf("got %v, want one error that says incomplete", errs)
	}
}

func TestInspectInterrupted(t *testing.T) {
	src := organisation(t, 6)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range bulk.Inspect(ctx, src, bulk.Options{Images: 1}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v, want canceled", last)
	}
}
