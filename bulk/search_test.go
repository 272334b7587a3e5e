package bulk_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/search"
)

func TestSearchReadsDistinctBlobsOnce(t *testing.T) {
	const n = 100
	src := organisation(t, n)
	s := search.New(search.Query{Content: regexp.MustCompile(".*"), Details: true}, search.Options{Layers: 3})
	i := 0
	for found, err := range bulk.Search(t.Context(), src, s, bulk.Options{Images: 5}) {
		if err != nil {
			t.Fatal(err)
		}
		if found.Ref != src.items[i].Ref {
			t.Errorf("number %d is %s, want %s", i, found.Ref, src.items[i].Ref)
		}
		var names []string
		for l := range found.Results[0].Found() {
			for m, hidden := range l.Matches() {
				names = append(names, m.Path)
				if hidden || l.DiffID == "" || m.Size == 0 {
					t.Errorf("%s is hidden, %v, of layer %s: %d bytes", m.Path, hidden, l.DiffID, m.Size)
				}
			}
		}
		if want := []string{"data/1", "data/2", "etc/os", fmt.Sprintf("data/%d", 1000+i)}; !slices.Equal(names, want) {
			t.Errorf("%s: got %q, want %q", found.Ref, names, want)
		}
		i++
	}
	reads := blobReads(src.log())
	if i != n || len(reads) != distinct(n) || src.most > 3+5 {
		t.Errorf("%d images, %d blobs read, %d at once; want %d, %d, at most 3 layers and 5 configs", i, len(reads), src.most, n, distinct(n))
	}
	for d, times := range reads {
		if times != 1 {
			t.Errorf("%s was read %d times", d, times)
		}
	}
	if got := s.Read(); got != int64(len(bases)+n) {
		t.Errorf("%d layers read, want %d", got, len(bases)+n)
	}
}

func TestSearchWithoutDetailsReadsNoConfig(t *testing.T) {
	src := organisation(t, 3)
	for _, err := range bulk.Search(t.Context(), src, search.New(search.Query{}, search.Options{}), bulk.Options{}) {
		if err != nil {
			t.Error(err)
		}
	}
	if got, want := len(blobReads(src.log())), len(bases)+3; got != want {
		t.Errorf("%d blobs read, want the %d layers", got, want)
	}
}

// A corrupt layer that all share is told of each, the rest goes on, and who has a
// blob that another lacks is asked for it.
func TestSearchOfDamage(t *testing.T) {
	src := organisation(t, 6)
	corrupt, gone := bases[1].Desc, bases[2].Desc
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case isBlob(r, corrupt.Digest):
			_, _ = w.Write(make([]byte, corrupt.Size))
			return true
		case isBlob(r, gone.Digest) && !strings.Contains(r.URL.Path, "app-04"):
			return notFound(w)
		}
		return false
	})
	s := search.New(search.Query{}, search.Options{})
	for found, err := range bulk.Search(t.Context(), src, s, bulk.Options{Images: 1}) {
		has := 0
		for range found.Results[0].Found() {
			has++
		}
		late := found.Ref.Repository >= "org/app-04"
		if want := map[bool]int{true: 3, false: 2}[late]; has != want {
			t.Errorf("%s: matches in %d layers, want %d", found.Ref, has, want)
		}
		if !errors.Is(err, oci.ErrDigestMismatch) || !strings.Contains(err.Error(), found.Ref.String()) || !strings.Contains(err.Error(), string(corrupt.Digest)) {
			t.Errorf("%s: got %v, want the corrupt layer named", found.Ref, err)
		}
		if errors.Is(err, oci.ErrNotFound) == late {
			t.Errorf("%s: got %v", found.Ref, err)
		}
	}
	if n := count(src.log(), "GET", string(corrupt.Digest)); n != 1 {
		t.Errorf("the corrupt layer was read %d times", n)
	}
}

func TestSearchOfIndexes(t *testing.T) {
	arm := oci.Platform{OS: "linux", Architecture: "arm64"}
	src := &images{far: newFar(t)}
	other := imagetest.New(arm, nil, bases[2], imagetest.Files(map[string]string{"only/arm": ""}))
	src.add(t, "org/app", "v1", imagetest.Index(imagetest.New(imagetest.Linux, nil, bases[2]), other))
	paths := func(opt bulk.Options) (got []string) {
		for found, err := range bulk.Search(t.Context(), src, search.New(search.Query{}, search.Options{}), opt) {
			if err != nil || !found.Index {
				t.Errorf("%+v, %v", found, err)
			}
			for _, r := range found.Results {
				for l := range r.Found() {
					for m := range l.Matches() {
						got = append(got, r.Platform.Architecture+" "+m.Path)
					}
				}
			}
		}
		return got
	}
	if got, want := paths(bulk.Options{}), []string{"amd64 etc/os", "arm64 etc/os", "arm64 only/arm"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := paths(bulk.Options{Platforms: []oci.Platform{arm}}), []string{"arm64 etc/os", "arm64 only/arm"}; !slices.Equal(got, want) {
		t.Errorf("one platform: got %q, want %q", got, want)
	}
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, string(other.Desc.Digest)) && notFound(w)
	})
	for found, err := range bulk.Search(t.Context(), src, search.New(search.Query{}, search.Options{}), bulk.Options{}) {
		if len(found.Results) != 1 || !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("a platform is missing: %d results, %v", len(found.Results), err)
		}
	}
}
