package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// pushed gives a registry that holds an index under app:v1, and the index.
func pushed(t *testing.T) (*far, imagetest.Image) {
	t.Helper()
	f := newFar(t)
	base := imagetest.Random(1, 2000)
	img := imagetest.Index(
		imagetest.New(imagetest.Linux, nil, base, imagetest.Random(2, 500)),
		imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, base),
	)
	if err := img.Push(t.Context(), f.URL, "app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	f.log()
	return f, img
}

func TestResolve(t *testing.T) {
	f, img := pushed(t)
	child := img.Children[0]
	tests := []struct {
		name, ref string
		want      imagetest.Image
	}{
		{"the name it was opened with", "", img},
		{"tag", "v1", img},
		{"digest of an index", string(img.Desc.Digest), img},
		{"digest of a manifest", string(child.Desc.Digest), child},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := f.source(t, "app", "v1")
			d, raw, err := src.Resolve(t.Context(), tt.ref)
			if err != nil || !bytes.Equal(raw, tt.want.Raw) || d.Digest != tt.want.Desc.Digest || d.MediaType != tt.want.Desc.MediaType || d.Size != tt.want.Desc.Size {
				t.Errorf("resolve: got %+v, %d bytes, %v", d, len(raw), err)
			}
			if d, err = src.Head(t.Context(), tt.ref); err != nil || d.Digest != tt.want.Desc.Digest || d.Size != tt.want.Desc.Size {
				t.Errorf("head: got %+v, %v", d, err)
			}
		})
	}
}

func TestResolveAsksForEveryTypeByName(t *testing.T) {
	f, _ := pushed(t)
	var accept string
	f.fail(func(_ http.ResponseWriter, r *http.Request) bool { accept = r.Header.Get("Accept"); return false })
	if _, _, err := f.source(t, "app", "v1").Resolve(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for _, mt := range []string{oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest} {
		if !strings.Contains(accept, mt) {
			t.Errorf("Accept %q lacks %s", accept, mt)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	f, img := pushed(t)
	serve := func(header map[string]string, body []byte) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			_, _ = w.Write(body)
			return true
		}
	}
	fails := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, status, code) }
	}
	index := map[string]string{"Content-Type": oci.MediaTypeIndex}
	other := imagetest.New(imagetest.Linux, nil)
	tests := []struct {
		name, ref string
		fault     func(http.ResponseWriter, *http.Request) bool
		want      error
		says      string
	}{
		{"no such tag", "v2", nil, oci.ErrNotFound, "app:v2"},
		{"expired tag", "v1", fails(404, "TAG_EXPIRED"), oci.ErrNotFound, "time machine"},
		{"no right", "v1", fails(401, "UNAUTHORIZED"), oci.ErrDenied, "app:v1"},
		{"forbidden", "v1", fails(403, "DENIED"), oci.ErrDenied, "DENIED"},
		{"another manifest than asked for", string(img.Desc.Digest), serve(index, other.Raw), oci.ErrDigestMismatch, string(other.Desc.Digest)},
		{"header and body differ", "v1", serve(map[string]string{"Content-Type": oci.MediaTypeIndex, "Docker-Content-Digest": string(other.Desc.Digest)}, img.Raw), oci.ErrDigestMismatch, "header"},
		{"a header that is no digest", "v1", serve(map[string]string{"Content-Type": oci.MediaTypeIndex, "Docker-Content-Digest": "sha256:../../x"}, img.Raw), oci.ErrInvalid, ""},
		{"over 4 MiB", "v1", serve(index, make([]byte, oci.MaxManifestSize+1)), oci.ErrTooLarge, ""},
		{"a page", "v1", serve(map[string]string{"Content-Type": "text/html"}, []byte("<html>")), oci.ErrInvalid, ""},
		{"nothing", "v1", serve(nil, nil), oci.ErrInvalid, ""},
		{"schema 1", "v1", serve(map[string]string{"Content-Type": oci.MediaTypeDockerSigned1}, []byte("{}")), oci.ErrUnsupported, "schema 1"},
		{"a path in the tag", "../../x", nil, oci.ErrInvalid, ""},
		{"a query in the digest", "sha256:" + hex64 + "?x=y", nil, oci.ErrInvalid, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.fail(tt.fault)
			_, _, err := f.source(t, "app", "v1").Resolve(t.Context(), tt.ref)
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestResolveTakesVagueTypesForWhatTheyAre(t *testing.T) {
	f, img := pushed(t)
	for _, ct := range []string{oci.MediaTypeIndex + "; charset=utf-8", "application/json", "application/octet-stream"} {
		f.fail(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", ct)
			_, _ = w.Write(img.Raw)
			return true
		})
		d, _, err := f.source(t, "app", "v1").Resolve(t.Context(), "")
		if err != nil || d.MediaType != oci.MediaTypeIndex || d.Digest != img.Desc.Digest {
			t.Errorf("%s: got %+v, %v", ct, d, err)
		}
	}
}

func TestResolveReadsATornAnswerAgain(t *testing.T) {
	f, img := pushed(t)
	f.http = f.Client() // the transport would have seen to it
	f.fail(once("GET", "", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(img.Raw)))
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		_, _ = w.Write(img.Raw[:100])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	if _, raw, err := f.source(t, "app", "v1").Resolve(t.Context(), ""); err != nil || !bytes.Equal(raw, img.Raw) {
		t.Errorf("got %d bytes, %v", len(raw), err)
	}
}

func TestHeadFallsBackToGet(t *testing.T) {
	f, img := pushed(t)
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
	}{
		{"405", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		}},
		{"no digest", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Type", oci.MediaTypeIndex)
			}
			return r.Method == http.MethodHead
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.fail(tt.fault)
			if d, err := f.source(t, "app", "v1").Head(t.Context(), ""); err != nil || d.Digest != img.Desc.Digest || d.Size != img.Desc.Size {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}
