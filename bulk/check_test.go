package bulk_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/oci"
)

func TestCheckReadsEachLayerOnce(t *testing.T) {
	src := organisation(t, many)
	release := make(chan struct{})
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/org/app-00/manifests/"):
			<-release // the first is the slowest
		case strings.Contains(r.URL.Path, "/org/app-01/manifests/"):
			close(release)
		case strings.Contains(r.URL.Path, "/org/app-05/manifests/"):
			return notFound(w)
		}
		return false
	})
	i := 0
	for r, err := range bulk.Check(t.Context(), src, check.New(check.Options{}), bulk.Options{}) {
		if want := src.items[i].Ref; r.Ref != want {
			t.Errorf("number %d is %s, want %s", i, r.Ref, want)
		}
		if failed := errors.Is(err, oci.ErrGone); failed != (i == 5) || r.Errors != 0 {
			t.Errorf("number %d: %v, %+v", i, err, r)
		}
		i++
	}
	if i != many {
		t.Errorf("%d images, want %d", i, many)
	}
	for d, n := range blobReads(src.log()) {
		if n != 1 {
			t.Errorf("%s was read %d times", d, n)
		}
	}
}

func TestCheckGoesOnAfterABadLayer(t *testing.T) {
	src := organisation(t, 6)
	bad := src.items[2].Ref.Repository
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, bad+"/blobs/") && notFound(w)
	})
	wrong := map[string]int{}
	for r, err := range bulk.Check(t.Context(), src, check.New(check.Options{}), bulk.Options{Images: 1}) {
		if err != nil {
			t.Errorf("%s: %v", r.Ref, err)
		}
		for _, f := range r.Results {
			if f.Severity == check.Error && f.Check == "blob-missing" {
				wrong[r.Image]++
			}
		}
	}
	if len(wrong) != 1 || wrong[bad] != 2 { // its config and its own layer; the others were read elsewhere
		t.Errorf("got %v, want two blobs of %s", wrong, bad)
	}
}
