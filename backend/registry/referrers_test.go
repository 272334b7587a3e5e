package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

func listReferrers(t *testing.T, src oci.Source, subject oci.Digest, kind string) (list []oci.Descriptor, err error) {
	t.Helper()
	for d, err := range src.(oci.ReferrerLister).Referrers(t.Context(), subject, kind) {
		if err != nil {
			return list, err
		}
		list = append(list, d)
	}
	return list, nil
}

func digests(list []oci.Descriptor) (all []oci.Digest) {
	for _, d := range list {
		all = append(all, d.Digest)
	}
	slices.Sort(all)
	return all
}

// about makes an artifact of kind with subject.
func about(subject oci.Descriptor, kind string) imagetest.Image {
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(9, 50))
	var m v1.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		panic(err)
	}
	m.Subject, m.ArtifactType, m.Annotations = &subject, kind, map[string]string{"of": kind}
	if strings.HasPrefix(kind, "config:") { // the older way to say it
		m.ArtifactType, m.Config.MediaType = "", strings.TrimPrefix(kind, "config:")
	}
	img.Raw, _ = json.Marshal(m)
	img.Desc = oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes(img.Raw), Size: int64(len(img.Raw))}
	return img
}

// refer puts artifacts of kinds about the image under v1 into repository a.
func (f *far) refer(t *testing.T, r *registry.Repository, img imagetest.Image, kinds ...string) (all []oci.Digest) {
	t.Helper()
	for _, kind := range kinds {
		a := about(img.Desc, kind)
		f.blobs(t, a)
		if _, err := r.Put(t.Context(), string(a.Desc.Digest), a.Desc.MediaType, a.Raw); err != nil {
			t.Fatal(err)
		}
		all = append(all, a.Desc.Digest)
	}
	slices.Sort(all)
	return all
}

// blobs puts those of img.
func (f *far) blobs(t *testing.T, img imagetest.Image) {
	t.Helper()
	dst := f.destination(t, "a", "")
	for _, b := range img.Blobs {
		c := &content{bytes: b}
		if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
			t.Fatal(err)
		}
	}
}

// What a registry with the API knows it says, filtered by us where it isn't by it.
func TestReferrersByAPI(t *testing.T) {
	for name, o := range map[string]*ociserver.Options{"filtered there": nil, "not filtered there": {DisableReferrersFiltering: true}} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.next = ociserver.New(ocimem.New(), o)
			img := f.image(t, "v1")
			r := f.repository(t, "a")
			all := f.refer(t, r, img, "a/x", "a/y", "a/y+json")
			if n := count(f.log(), "GET", ""); n != 0 {
				t.Errorf("%d questions, though the answers to PUT said it", n)
			}
			got, err := listReferrers(t, f.source(t, "a", "v1"), img.Desc.Digest, "")
			if err != nil || !slices.Equal(digests(got), all) {
				t.Errorf("got %v, %v, want %v", digests(got), err, all)
			}
			got, err = listReferrers(t, r, img.Desc.Digest, "a/y+json")
			if want := about(img.Desc, "a/y+json").Desc.Digest; err != nil || len(got) != 1 || got[0].Digest != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
			if asked := f.log(); len(asked) != 2 {
				t.Errorf("asked %v", asked)
			}
			if tags, err := listTags(t, r); err != nil || !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("tags %v, %v", tags, err)
			}
		})
	}
}

// Quay has the API, but doesn't say so when it takes a manifest, and it answers
// 400 where the specification has an empty list.
func TestReferrersOfAQuay(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100))
	env := robotEnv(t, run, robot)
	var all []oci.Digest
	tgt := open(t, run.Host, env)
	for i, repo := range []string{"mirror/a", "mirror/b"} {
		if err := s.Push(t.Context(), repo, "v1", img); err != nil {
			t.Fatal(err)
		}
		if err := s.Grant(repo, "mirror+bot", "write"); err != nil {
			t.Fatal(err)
		}
		s.Reset()
		for _, kind := range []string{"a/x", "a/y"} {
			dst, err := tgt.Image(t.Context(), oci.Ref{Registry: run.Host, Repository: repo})
			if err != nil {
				t.Fatal(err)
			}
			artifact := about(img.Desc, kind)
			if err := put(t.Context(), dst, artifact); err != nil {
				t.Fatal(err)
			}
			if err := dst.Commit(t.Context(), artifact.Desc, artifact.Desc); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				all = append(all, artifact.Desc.Digest)
			}
		}
		if n := s.Counts()["v2.referrers"]; n != 1-i {
			t.Errorf("%s: %d questions for referrers, want %d: %v", repo, n, 1-i, s.Counts())
		}
	}
	slices.Sort(all)
	r := repositoryAt(t, run.Host, "mirror/a", env)
	if got, err := listReferrers(t, r, img.Desc.Digest, ""); err != nil || !slices.Equal(digests(got), all) {
		t.Errorf("got %v, %v, want %v", digests(got), err, all)
	}
	if got, err := listReferrers(t, r, img.Desc.Digest, "a/y"); err != nil || len(got) != 1 || got[0].ArtifactType != "a/y" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := listReferrers(t, r, digest.FromString("never there"), ""); err != nil || len(got) != 0 {
		t.Errorf("of what isn't there: %v, %v", got, err)
	}
	if tags, err := listTags(t, r); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
}

// Registries without the API have a tag in its place. That costs one question for
// the registry, whatever is read and written there.
func TestReferrersByTag(t *testing.T) {
	noAPI := map[string]http.Handler{
		"405":               answering("UNSUPPORTED", http.StatusMethodNotAllowed),
		"400":               answering("UNSUPPORTED", http.StatusBadRequest),
		"a page, with 200":  answering("", http.StatusOK),
		"404 without words": oldRegistry(),
		"not implemented":   answering("", http.StatusNotImplemented),
	}
	for name, next := range noAPI {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.next = next
			img := f.image(t, "v1")
			r := f.repository(t, "a")
			all := f.refer(t, r, img, "a/x", "a/y")
			if n := count(f.log(), "GET", "/referrers/"); n != 1 {
				t.Errorf("%d questions for the API", n)
			}
			tag := "sha256-" + img.Desc.Digest.Encoded()
			if tags, err := listTags(t, r); err != nil || !slices.Equal(tags, []string{tag, "v1"}) {
				t.Errorf("tags %v, %v", tags, err)
			}
			f.log()
			for range 2 {
				got, err := listReferrers(t, f.source(t, "a", "v1"), img.Desc.Digest, "")
				if err != nil || !slices.Equal(digests(got), all) {
					t.Errorf("got %v, %v, want %v", digests(got), err, all)
				}
			}
			got, err := listReferrers(t, f.repository(t, "a"), img.Desc.Digest, "a/y")
			if err != nil || len(got) != 1 || got[0].ArtifactType != "a/y" || got[0].Annotations["of"] != "a/y" {
				t.Errorf("got %v, %v", got, err)
			}
			if none, err := listReferrers(t, r, digest.FromString("no subject"), ""); err != nil || len(none) != 0 {
				t.Errorf("got %v, %v", none, err)
			}
			if asked := f.log(); len(asked) != 4 || count(asked, "GET", "/referrers/") != 0 {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

// answering is a registry that knows no subjects, and answers questions for
// referrers with status.
func answering(code string, status int) http.Handler {
	next := ociserver.New(ocimem.New(), nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.Contains(r.URL.Path, "/referrers/"):
			next.ServeHTTP(unaware{w}, r)
		case code != "":
			answer(w, status, code)
		default:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>hello</html>")
		}
	})
}

// oldRegistry is one as they were before the referrers API.
func oldRegistry() http.Handler { return answering("", http.StatusNotFound) }

// unaware takes the word of subjects out of an answer.
type unaware struct{ http.ResponseWriter }

func (u unaware) WriteHeader(status int) {
	u.Header().Del("OCI-Subject")
	u.ResponseWriter.WriteHeader(status)
}

func TestReferrersPages(t *testing.T) {
	f := newFar(t)
	subject := digest.FromString("subject")
	page := func(ids ...string) string {
		var list []oci.Descriptor
		for _, id := range ids {
			list = append(list, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromString(id), Size: 5, ArtifactType: "a/x"})
		}
		raw, _ := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeIndex, Manifests: list})
		return string(raw)
	}
	next := func(last string) []string {
		return []string{fmt.Sprintf(`</v2/a/referrers/%s?last=%s>; rel="next"`, subject, url.QueryEscape(last))}
	}
	tests := []struct {
		name  string
		pages map[string]leaf
		want  int
		kind  error
	}{
		{"three pages", map[string]leaf{"": {body: page("1", "2"), links: next("2")}, "2": {body: page("3"), links: next("3")}, "3": {body: page("4")}}, 4, nil},
		{"again the same", map[string]leaf{"": {body: page("1", "2"), links: next("2")}, "2": {body: page("1", "2"), links: next("3")}}, 2, oci.ErrIncomplete},
		{"500 behind the first", map[string]leaf{"": {body: page("1"), links: next("1")}, "1": {status: 500}}, 1, oci.ErrIncomplete},
		{"404 behind the first", map[string]leaf{"": {body: page("1"), links: next("1")}, "1": {status: 404}}, 1, oci.ErrIncomplete},
		{"500 at once", map[string]leaf{"": {status: 500}}, 0, nil},
		{"403 at once", map[string]leaf{"": {status: 403}}, 0, oci.ErrDenied},
		{"a digest that is none", map[string]leaf{"": {body: strings.ReplaceAll(page("1"), "sha256:", "sha256:../")}}, 0, oci.ErrInvalid},
		{"a size below 0", map[string]leaf{"": {body: strings.ReplaceAll(page("1"), `"size":5`, `"size":-5`)}}, 0, oci.ErrInvalid},
		{"what is no manifest", map[string]leaf{"": {body: strings.Replace(page("1", "2"), oci.MediaTypeManifest, "text/plain", 1)}}, 1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.fail(func(w http.ResponseWriter, r *http.Request) bool {
				p := tt.pages[r.URL.Query().Get("last")]
				for _, l := range p.links {
					w.Header().Add("Link", l)
				}
				w.Header().Set("Content-Type", oci.MediaTypeIndex)
				if p.status != 0 {
					return answer(w, p.status, "OF_THE_TEST")
				}
				_, _ = io.WriteString(w, p.body)
				return true
			})
			got, err := listReferrers(t, f.repository(t, "a"), subject, "")
			if tt.name == "500 at once" {
				if err == nil || errors.Is(err, oci.ErrNotFound) {
					t.Errorf("got %v", err)
				}
				return
			}
			if len(got) != tt.want || !errors.Is(err, tt.kind) {
				t.Errorf("got %d, %v, want %d, %v", len(got), err, tt.want, tt.kind)
			}
		})
	}
}
