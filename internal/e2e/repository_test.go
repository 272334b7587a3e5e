package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// repository opens repository a of host, with the image img under v1.
func repository(t *testing.T, host string) (*registry.Repository, imagetest.Image) {
	t.Helper()
	e, img := env(t, transport.Options{}), image(1, 1000, "amd64")
	dst := destination(t, e, host, "a", "v1")
	if err := write(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	r, err := registry.OpenRepository(oci.Ref{Registry: host, Repository: "a"}, e)
	if err != nil {
		t.Fatal(err)
	}
	return r, img
}

func tagsOf(t *testing.T, r *registry.Repository) (all []string) {
	t.Helper()
	for tag, err := range r.Tags(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tag)
	}
	slices.Sort(all)
	return all
}

// A44, A48: distribution deletes by tag and leaves the others of the digest, and by
// digest with all of them.
func TestTagsOfDistribution(t *testing.T) {
	far := startRegistry(t, nil)
	r, img := repository(t, far.host)
	want := []string{"v1"}
	for i := range 30 {
		tag := fmt.Sprintf("t%02d", i)
		if _, err := r.Put(t.Context(), tag, img.Desc.MediaType, img.Raw); err != nil {
			t.Fatal(err)
		}
		want = append(want, tag)
	}
	slices.Sort(want)
	if got := tagsOf(t, r); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := r.DeleteTag(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteTag(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if gone, err := r.Missing(t.Context(), "v1"); !gone || err != nil {
		t.Errorf("v1 is missing: %v, %v", gone, err)
	}
	if d, err := r.Head(t.Context(), "t00"); err != nil || d.Digest != img.Desc.Digest {
		t.Errorf("t00: %v, %v", d.Digest, err)
	}
	if err := r.DeleteManifest(t.Context(), img.Desc.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Head(t.Context(), "t00"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("t00: %v", err)
	}
}

// The pages are as long as distribution makes them.
func TestTagPagesOfDistribution(t *testing.T) {
	var pages atomic.Int32
	far := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/a/tags/list" {
				pages.Add(1)
				q := r.URL.Query()
				q.Set("n", "7") // as a registry with a limit of its own
				r.URL.RawQuery = q.Encode()
			}
			next.ServeHTTP(w, r)
		})
	})
	r, img := repository(t, far.host)
	for i := range 20 {
		if _, err := r.Put(t.Context(), fmt.Sprintf("t%02d", i), img.Desc.MediaType, img.Raw); err != nil {
			t.Fatal(err)
		}
	}
	if got := tagsOf(t, r); len(got) != 21 {
		t.Errorf("got %v", got)
	}
	// Behind a full page distribution names a next, which is empty.
	if n := pages.Load(); n != 4 {
		t.Errorf("%d requests for 21 tags, 7 at once", n)
	}
}

// statement makes an artifact about subject.
func statement(subject oci.Descriptor, text string) imagetest.Image {
	a := artifact()
	var m ocispec.Manifest
	if err := json.Unmarshal(a.Raw, &m); err != nil {
		panic(err)
	}
	m.Subject, m.Annotations = &subject, map[string]string{"says": text}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	a.Raw, a.Desc = raw, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return a
}

// Distribution has no API for referrers: they are listed under a tag, which another
// implementation reads as we write it. The answer to the one question for the API is
// kept for all repositories.
func TestReferrersOfDistribution(t *testing.T) {
	var asked atomic.Int32
	far := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if bytes.Contains([]byte(r.URL.Path), []byte("/referrers/")) {
				asked.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	r, img := repository(t, far.host)
	e := env(t, transport.Options{})
	var want []oci.Digest
	for i := range 3 {
		a := statement(img.Desc, fmt.Sprint(i))
		dst := destination(t, e, far.host, "a", "")
		if err := write(t.Context(), dst, a); err != nil {
			t.Fatal(err)
		}
		if err := dst.Commit(t.Context(), a.Desc, a.Desc); err != nil {
			t.Fatal(err)
		}
		want = append(want, a.Desc.Digest)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d questions for the API", n)
	}
	slices.Sort(want)
	var got []oci.Digest
	for d, err := range r.Referrers(t.Context(), img.Desc.Digest, "application/vnd.example.statement") {
		if err != nil {
			t.Fatal(err)
		}
		if d.Annotations["says"] == "" || d.ArtifactType == "" {
			t.Errorf("got %+v", d)
		}
		got = append(got, d.Digest)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for d, err := range r.Referrers(t.Context(), img.Desc.Digest, "application/vnd.example.other") {
		t.Errorf("of another type: %v, %v", d, err)
	}
	ref, err := name.NewDigest(far.host + "/a@" + string(img.Desc.Digest))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := remote.Referrers(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	list, err := theirs.IndexManifest()
	if err != nil || len(list.Manifests) != len(want) {
		t.Errorf("go-containerregistry reads %+v, %v", list, err)
	}
}

// What was moved by mistake is put back by its digest, and rollback takes that back.
func TestRestoreInDistribution(t *testing.T) {
	far := startRegistry(t, nil)
	r, old := repository(t, far.host)
	newer := image(2, 1000, "amd64")
	dst := destination(t, env(t, transport.Options{}), far.host, "a", "v1")
	if err := write(t.Context(), dst, newer); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), newer.Desc, newer.Desc); err != nil {
		t.Fatal(err)
	}
	ref, journal := far.host+"/a:v1", filepath.Join(t.TempDir(), "journal")
	if got := run(t, "restore", "--plain-http", ref); got.status != 1 || !strings.Contains(got.stderr, "only a Quay keeps histories") {
		t.Errorf("without a digest: %d, %s", got.status, got.stderr)
	}
	means := func(want imagetest.Image) {
		t.Helper()
		if _, raw, err := r.Resolve(t.Context(), "v1"); err != nil || !bytes.Equal(raw, want.Raw) {
			t.Errorf("got %q, %v", raw, err)
		}
	}
	must(t, "restore", "--plain-http", "--journal", journal, "--digest", string(old.Desc.Digest), ref)
	means(old)
	must(t, "rollback", "--plain-http", "--journal", journal)
	means(newer)
}
