package registry_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// image puts a small image under tag of repository a, and gives it.
func (f *far) image(t *testing.T, tag string) imagetest.Image {
	t.Helper()
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100))
	dst := f.destination(t, "a", tag)
	if err := put(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	f.log()
	return img
}

// What is put is there at once, by one request, byte for byte and as its type.
func TestPut(t *testing.T) {
	f := newFar(t)
	img := f.image(t, "v1")
	r := f.repository(t, "a")
	raw := append(bytes.Clone(img.Raw), "\n "...) // another digest, the same image
	sha256, sha512 := digest.FromBytes(raw), digest.SHA512.FromBytes(raw)
	var typed []string
	f.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			typed = append(typed, r.Header.Get("Content-Type"))
		}
		return false
	})
	for ref, want := range map[string]oci.Digest{"v2": sha256, string(sha256): sha256} {
		desc, err := r.Put(t.Context(), ref, img.Desc.MediaType, raw)
		if want := (oci.Descriptor{MediaType: img.Desc.MediaType, Digest: want, Size: int64(len(raw))}); err != nil || desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType {
			t.Errorf("%s: got %+v, %v, want %+v", ref, desc, err, want)
		}
		if asked := f.log(); len(asked) != 1 {
			t.Errorf("%s: asked %v", ref, asked)
		}
		if _, got, err := r.Resolve(t.Context(), ref); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: got %q, %v", ref, got, err)
		}
		f.log()
	}
	if want := []string{img.Desc.MediaType, img.Desc.MediaType}; !slices.Equal(typed, want) {
		t.Errorf("sent as %v, want %v", typed, want)
	}
	// A digest of another algorithm is the caller's to choose.
	f.fail(once("PUT", "manifests/sha512:", func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusCreated)
		return true
	}))
	if desc, err := r.Put(t.Context(), string(sha512), img.Desc.MediaType, raw); err != nil || desc.Digest != sha512 {
		t.Errorf("sha512: got %+v, %v", desc, err)
	}
}

func TestPutRefuses(t *testing.T) {
	f := newFar(t)
	img := f.image(t, "v1")
	r := f.repository(t, "a")
	other := string(digest.FromString("another"))
	tests := []struct {
		name, ref string
		mt        oci.MediaType
		raw       []byte
		kind      error
	}{
		{"another's digest", other, img.Desc.MediaType, img.Raw, oci.ErrDigestMismatch},
		{"no name", "", img.Desc.MediaType, img.Raw, oci.ErrInvalid},
		{"a path", "../b", img.Desc.MediaType, img.Raw, oci.ErrInvalid},
		{"no type", "v2", "", img.Raw, oci.ErrUnsupported},
		{"a type with parameters, which Quay doesn't take", "v2", img.Desc.MediaType + "; charset=utf-8", img.Raw, oci.ErrUnsupported},
		{"schema 1", "v2", oci.MediaTypeDockerSchema1, img.Raw, oci.ErrUnsupported},
		{"over 4 MiB", "v2", img.Desc.MediaType, make([]byte, oci.MaxManifestSize+1), oci.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := r.Put(t.Context(), tt.ref, tt.mt, tt.raw); !errors.Is(err, tt.kind) {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
			if asked := f.log(); len(asked) > 0 {
				t.Errorf("asked %v", asked)
			}
		})
	}
	t.Run("the registry takes it for something else", func(t *testing.T) {
		f.fail(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", other)
			w.WriteHeader(http.StatusCreated)
			return true
		})
		if _, err := r.Put(t.Context(), "v2", img.Desc.MediaType, img.Raw); !errors.Is(err, oci.ErrDigestMismatch) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeleteAnswers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		code   string // "" is an answer without a body
		kind   error  // nil is success
	}{
		{"accepted", 202, "", nil},
		{"OK", 200, "", nil},
		{"no content", 204, "", nil},
		{"A48 unknown", 404, "MANIFEST_UNKNOWN", oci.ErrNotFound},
		{"A48 not ours", 401, "UNAUTHORIZED", oci.ErrDenied},
		{"no tags here", 400, "DIGEST_INVALID", oci.ErrUnsupported},
		{"no deletes", 405, "UNSUPPORTED", oci.ErrUnsupported},
		{"no deletes, in other words", 400, "UNSUPPORTED", oci.ErrUnsupported},
		{"not implemented", 501, "", oci.ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			f.fail(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodDelete {
					return false
				}
				if tt.code == "" {
					w.WriteHeader(tt.status)
					return true
				}
				return answer(w, tt.status, tt.code)
			})
			r := f.repository(t, "a")
			for what, err := range map[string]error{
				"tag": r.DeleteTag(t.Context(), "v1"), "manifest": r.DeleteManifest(t.Context(), digest.FromString("x")),
			} {
				if tt.kind == nil && err != nil || !errors.Is(err, tt.kind) {
					t.Errorf("%s: got %v, want %v", what, err, tt.kind)
				}
			}
			if n := count(f.log(), "DELETE", "/v2/a/manifests/"); n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
	t.Run("read-only for now, or failing, is no inability", func(t *testing.T) {
		f := newFar(t)
		for status, code := range map[int]string{405: "DENIED", 500: "UNKNOWN", 400: "NAME_INVALID"} {
			f.fail(func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, status, code) })
			if err := f.repository(t, "a").DeleteTag(t.Context(), "v1"); err == nil || errors.Is(err, oci.ErrUnsupported) {
				t.Errorf("%d %s: got %v", status, code, err)
			}
		}
	})
	t.Run("what is no tag is not asked for", func(t *testing.T) {
		f := newFar(t)
		r := f.repository(t, "a")
		if err := r.DeleteTag(t.Context(), string(digest.FromString("x"))); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("a digest: %v", err)
		}
		if err := r.DeleteManifest(t.Context(), "latest"); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("a tag: %v", err)
		}
		if asked := f.log(); len(asked) > 0 {
			t.Errorf("asked %v", asked)
		}
	})
}

// robotEnv is what the robot of startQuay works with.
func robotEnv(t *testing.T, run *quaytest.Run, robot string) backend.Env {
	return backend.Env{HTTP: client(t, transport.Options{Credentials: transport.Fixed(run.Host, "mirror+bot", robot)}), PlainHTTP: true}
}

// Deleting a tag leaves the others of its digest, deleting the manifest doesn't.
func TestDeleteAtQuay(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	img := multiArch(1, 100)
	for _, tag := range []string{"v1", "v2", "v3"} {
		if err := s.Push(t.Context(), "mirror/app", tag, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Grant("mirror/app", "mirror+bot", "write"); err != nil {
		t.Fatal(err)
	}
	r := repositoryAt(t, run.Host, "mirror/app", robotEnv(t, run, robot))
	if err := r.DeleteTag(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteTag(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, err := r.Head(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("v1: %v", err)
	}
	if d, err := r.Head(t.Context(), "v2"); err != nil || d.Digest != img.Desc.Digest {
		t.Errorf("v2: %v, %v", d.Digest, err)
	}
	if err := r.DeleteManifest(t.Context(), img.Desc.Digest); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v2", "v3"} {
		if _, err := r.Head(t.Context(), tag); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

// Absence is a 404 that says so, to somebody who may push.
func TestMissing(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	if err := s.Push(t.Context(), "mirror/app", "v1", multiArch(1, 100)); err != nil {
		t.Fatal(err)
	}
	s.CreateOrg("other", "alice")
	if err := s.Grant("mirror/app", "mirror+bot", "write"); err != nil {
		t.Fatal(err)
	}
	env := robotEnv(t, run, robot)
	tests := []struct {
		repo, ref string
		want      bool
		kind      error
	}{
		{"mirror/app", "v1", false, nil},
		{"mirror/app", "v2", true, nil},
		{"mirror/new", "v1", true, nil}, // which it makes
		{"other/app", "v1", false, oci.ErrDenied},
		{"mirror/app", "../x", false, oci.ErrInvalid},
	}
	for _, tt := range tests {
		got, err := repositoryAt(t, run.Host, tt.repo, env).Missing(t.Context(), tt.ref)
		if got != tt.want || !errors.Is(err, tt.kind) {
			t.Errorf("%s:%s: got %v, %v, want %v, %v", tt.repo, tt.ref, got, err, tt.want, tt.kind)
		}
	}
	if err := s.DeleteTag("mirror/app", "v1"); err != nil {
		t.Fatal(err)
	}
	if gone, err := repositoryAt(t, run.Host, "mirror/app", env).Missing(t.Context(), "v1"); !gone || err != nil {
		t.Errorf("a deleted tag: %v, %v", gone, err)
	}
}

func TestMissingNeedsAnAnswerThatSaysSo(t *testing.T) {
	f := newFar(t)
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"a page of a proxy": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<html><title>404 Not Found</title></html>")
			return true
		},
		"throttled": func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 429, "TOOMANYREQUESTS") },
		"broken":    func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 500, "UNKNOWN") },
		"gone":      func(w http.ResponseWriter, _ *http.Request) bool { return reset(w) },
	} {
		f.fail(fault)
		if missing, err := f.repository(t, "a").Missing(t.Context(), "v1"); missing || err == nil {
			t.Errorf("%s: got %v, %v", name, missing, err)
		}
	}
}

// Push is asked for by who writes, and by Missing.
func TestScopesOfARepository(t *testing.T) {
	f := newFar(t)
	img := f.image(t, "v1")
	seen := &scopes{next: f.http.Transport, seen: map[string][]string{}}
	env := f.env()
	env.HTTP = &http.Client{Transport: seen}
	r := repositoryAt(t, f.host, "a", env)
	_, _ = listTags(t, r)
	_, _ = listReferrers(t, r, img.Desc.Digest, "")
	_, _ = r.Missing(t.Context(), "v9")
	if _, err := r.Put(t.Context(), "v2", img.Desc.MediaType, img.Raw); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteTag(t.Context(), "v2"); err != nil {
		t.Fatal(err)
	}
	for key, got := range seen.seen {
		want := "repository:a:pull"
		if strings.HasPrefix(key, "PUT") || strings.HasPrefix(key, "DELETE") || strings.HasSuffix(key, "/v9") {
			want = "repository:a:pull,push"
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s asks for %v, want %s", key, got, want)
		}
	}
	if len(seen.seen) != 5 {
		t.Errorf("asked %v", seen.seen)
	}
}

// Registries that have a scope for deletes name it in their challenge; Quay would
// refuse the whole token for it.
func TestDeleteWithAScopeOfItsOwn(t *testing.T) {
	f := newFar(t)
	f.image(t, "v1")
	f.http = client(t, transport.Options{Credentials: transport.Fixed(f.host, "bot", "secret"), Retries: -1})
	var asked []string
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		scope := "repository:a:pull"
		switch r.Method {
		case http.MethodDelete:
			scope = "repository:a:delete"
		case http.MethodPut:
			scope = "repository:a:pull,push"
		}
		if r.URL.Path == "/token" {
			asked = append(asked, strings.Join(r.URL.Query()["scope"], " "))
			_, _ = io.WriteString(w, `{"token":"`+strings.NewReplacer(":", "_", ",", "_", " ", "_").Replace(asked[len(asked)-1])+`"}`)
			return true
		}
		have := r.Header.Get("Authorization")
		if have == "" || scope == "repository:a:delete" && !strings.Contains(have, "delete") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="x",scope="`+scope+`"`)
			return answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
		}
		return false
	})
	r := f.repository(t, "a")
	if err := r.DeleteTag(t.Context(), "v1"); err != nil {
		t.Errorf("%v; tokens for %q", err, asked)
	}
	if len(asked) > 2 || strings.Contains(asked[0], "delete") {
		t.Errorf("tokens for %q", asked)
	}
}

func TestOpenRepository(t *testing.T) {
	for _, ref := range []oci.Ref{{}, {Registry: "a.example"}, {Repository: "a"}, {Registry: "a.example", Repository: "../b"}} {
		if _, err := registry.OpenRepository(ref, backend.Env{}); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}
