package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// In one process nothing is lost, whoever writes.
func TestEnterManyReferrersAtOnce(t *testing.T) {
	f := newFar(t)
	f.next = oldRegistry()
	img := f.image(t, "v1")
	artifacts := make([]imagetest.Image, 8)
	for i := range artifacts {
		artifacts[i] = about(img.Desc, fmt.Sprintf("a/x%d", i))
		f.blobs(t, artifacts[i])
	}
	f.log()
	var wg sync.WaitGroup
	for i, a := range artifacts {
		wg.Go(func() {
			var err error
			if i%2 == 0 { // one way or the other, each through a door of its own
				_, err = f.repository(t, "a").Put(t.Context(), string(a.Desc.Digest), a.Desc.MediaType, a.Raw)
			} else if dst := f.destination(t, "a", ""); err == nil {
				if _, err = dst.PutManifest(t.Context(), a.Raw, a.Desc.MediaType); err == nil {
					err = dst.Commit(t.Context(), a.Desc, a.Desc)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// The artifact, and of the list GET, PUT, HEAD.
	if asked := f.log(); count(asked, "PUT", "")+count(asked, "GET", "sha256-")+count(asked, "HEAD", "sha256-") != 4*len(artifacts) {
		t.Errorf("asked %v", asked)
	}
	got, err := listReferrers(t, f.repository(t, "a"), img.Desc.Digest, "")
	if err != nil || len(got) != len(artifacts) {
		t.Errorf("got %d of %d, %v", len(got), len(artifacts), err)
	}
}

// Somebody in another process writes the list between our reading and writing.
func TestEnterAReferrerAgainstOthers(t *testing.T) {
	for _, tt := range []struct {
		others int // how often
		ok     bool
	}{{1, true}, {2, true}, {3, false}} {
		t.Run(fmt.Sprint(tt.others), func(t *testing.T) {
			f := newFar(t)
			f.next = oldRegistry()
			img := f.image(t, "v1")
			r := f.repository(t, "a")
			first := f.refer(t, r, img, "a/first")
			own := about(img.Desc, "a/own")
			f.blobs(t, own)
			tag, left := "sha256-"+img.Desc.Digest.Encoded(), tt.others
			_, theirs, err := r.Resolve(t.Context(), tag)
			if err != nil {
				t.Fatal(err)
			}
			// Behind our PUT they write what they had made of the list before.
			f.fail(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodHead || !strings.HasSuffix(req.URL.Path, tag) || left == 0 {
					return false
				}
				left--
				lost, err := http.NewRequestWithContext(req.Context(), http.MethodPut, "/v2/a/manifests/"+tag, strings.NewReader(string(theirs)))
				if err != nil {
					panic(err)
				}
				lost.Header.Set("Content-Type", oci.MediaTypeIndex)
				f.next.ServeHTTP(discard{http.Header{}}, lost)
				return false
			})
			_, err = r.Put(t.Context(), string(own.Desc.Digest), own.Desc.MediaType, own.Raw)
			if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, oci.ErrMoved) {
				t.Fatal(err)
			}
			got, err := listReferrers(t, r, img.Desc.Digest, "")
			if want := map[bool]int{true: 2, false: 1}[tt.ok]; err != nil || len(got) != want || !slices.Contains(digests(got), first[0]) {
				t.Errorf("got %v, %v, want %d", digests(got), err, want)
			}
		})
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// What others keep in the list stays, and the same entry is not written twice.
func TestEnterAReferrerKeepsTheRest(t *testing.T) {
	f := newFar(t)
	f.next = oldRegistry()
	img := f.image(t, "v1")
	r := f.repository(t, "a")
	tag := "sha256-" + img.Desc.Digest.Encoded()
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"annotations":{"k":"v"},"x":1.50,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"y":[1e3]}]}`,
		oci.MediaTypeIndex, oci.MediaTypeManifest, img.Desc.Digest, img.Desc.Size)
	if _, err := r.Put(t.Context(), tag, oci.MediaTypeIndex, []byte(list)); err != nil {
		t.Fatal(err)
	}
	f.refer(t, r, img, "config:a/older")
	_, raw, err := r.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{`"annotations":{"k":"v"}`, `"x":1.50`, `"y":[1e3]`, `"artifactType":"a/older"`, `"of":"config:a/older"`} {
		if !strings.Contains(string(raw), kept) {
			t.Errorf("%s is not in %s", kept, raw)
		}
	}
	f.log()
	f.refer(t, r, img, "config:a/older")
	if n := count(f.log(), "PUT", "manifests/"+tag); n != 0 {
		t.Errorf("%d writes of a list that had the entry", n)
	}
}

func TestEnterAReferrerIntoWhatIsNoList(t *testing.T) {
	f := newFar(t)
	f.next = oldRegistry()
	img := f.image(t, "v1")
	r := f.repository(t, "a")
	tag := "sha256-" + img.Desc.Digest.Encoded()
	if _, err := r.Put(t.Context(), tag, img.Desc.MediaType, img.Raw); err != nil {
		t.Fatal(err)
	}
	a := about(img.Desc, "a/x")
	f.blobs(t, a)
	if _, err := r.Put(t.Context(), string(a.Desc.Digest), a.Desc.MediaType, a.Raw); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if d, err := r.Head(t.Context(), tag); err != nil || d.Digest != img.Desc.Digest {
		t.Errorf("it was overwritten: %v, %v", d, err)
	}
	env, warned := f.env(), ""
	env.Warn = func(s string) { warned += s }
	if got, err := listReferrers(t, repositoryAt(t, f.host, "a", env), img.Desc.Digest, ""); err != nil || len(got) != 0 || !strings.Contains(warned, "no list of referrers") {
		t.Errorf("got %v, %v, told %q", got, err, warned)
	}
}
