package registry_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// put puts img as the pipeline does: what is below first, children at once.
func put(ctx context.Context, dst oci.Destination, img imagetest.Image) error {
	var wg sync.WaitGroup
	errs := make([]error, len(img.Children))
	for i, c := range img.Children {
		wg.Go(func() { errs[i] = put(ctx, dst, c) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for d, b := range img.Blobs {
		c := &content{bytes: b}
		if _, err := dst.PutBlob(ctx, oci.Blob{Desc: c.desc(), Open: c.open}); err != nil {
			return errors.Join(errors.New(string(d)), err)
		}
	}
	_, err := dst.PutManifest(ctx, img.Raw, img.Desc.MediaType)
	return err
}

func manifestPuts(asked []string) (names []string) {
	for _, a := range asked {
		if name, ok := strings.CutPrefix(a, "PUT /v2/a/manifests/"); ok {
			names = append(names, name)
		}
	}
	return names
}

func TestTheRootIsSentOnceUnderItsName(t *testing.T) {
	child := func(seed uint64, arch string) imagetest.Image {
		return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, nil, imagetest.Random(seed, 300))
	}
	flat := child(1, "amd64")
	index := imagetest.Index(child(1, "amd64"), child(2, "arm64"), child(3, "s390x"))
	tests := []struct {
		name string
		img  imagetest.Image
		puts int
	}{
		{"one platform", flat, 1},
		{"index", index, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			dst := f.destination(t, "a", "v1")
			if err := put(t.Context(), dst, tt.img); err != nil {
				t.Fatal(err)
			}
			if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("before Commit the name is there: %v", err)
			}
			if err := dst.Commit(t.Context(), tt.img.Desc, tt.img.Desc); err != nil {
				t.Fatal(err)
			}
			puts := manifestPuts(f.log())
			if len(puts) != tt.puts || puts[len(puts)-1] != "v1" || slices.Contains(puts, string(tt.img.Desc.Digest)) {
				t.Errorf("put as %q", puts)
			}
			for _, full := range []bool{false, true} {
				if err := dst.Verify(t.Context(), tt.img.Desc, full); err != nil {
					t.Error(err)
				}
			}
			if _, raw, err := f.source(t, "a", "v1").Resolve(t.Context(), ""); err != nil || !bytes.Equal(raw, tt.img.Raw) {
				t.Errorf("it comes back as %q, %v", raw, err)
			}
		})
	}
}

// Children of an index within an index have to be there before it, though they
// are sent by whoever comes next.
func TestNestedIndexesArriveInOrder(t *testing.T) {
	f := newFar(t)
	var mu sync.Mutex
	there := map[string]bool{}
	parents := map[string][]string{}
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		name, ok := strings.CutPrefix(r.URL.Path, "/v2/a/manifests/")
		if r.Method != http.MethodPut || !ok {
			return false
		}
		mu.Lock()
		for _, child := range parents[name] {
			if !there[child] {
				t.Errorf("%s is sent before its child", name)
			}
		}
		mu.Unlock()
		rec := httptest.NewRecorder()
		f.next.ServeHTTP(rec, r)
		mu.Lock()
		there[name] = true
		mu.Unlock()
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		return true
	})
	var middle []imagetest.Image
	for i := range uint64(6) {
		leaf := func(n uint64, arch string) imagetest.Image {
			return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, nil, imagetest.Random(n, 50))
		}
		idx := imagetest.Index(leaf(10*i, "amd64"), leaf(10*i+1, "arm64"))
		for _, c := range idx.Children {
			parents[string(idx.Desc.Digest)] = append(parents[string(idx.Desc.Digest)], string(c.Desc.Digest))
		}
		middle = append(middle, idx)
	}
	root := nest(middle)
	dst := f.destination(t, "a", "v1")
	if err := put(t.Context(), dst, root); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), root.Desc, root.Desc); err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), root.Desc, true); err != nil {
		t.Error(err)
	}
}

// nest makes an index of indexes.
func nest(children []imagetest.Image) imagetest.Image {
	var parts []string
	for _, c := range children {
		parts = append(parts, `{"mediaType":"`+c.Desc.MediaType+`","digest":"`+string(c.Desc.Digest)+`","size":`+itoa(c.Desc.Size)+`}`)
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[` + strings.Join(parts, ",") + `]}`)
	d := imagetest.Blob(oci.MediaTypeIndex, raw).Desc
	return imagetest.Image{Desc: d, Raw: raw, Children: children}
}

func TestCommitOfWhatIsThere(t *testing.T) {
	f := newFar(t)
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 300))
	other := imagetest.New(imagetest.Linux, nil, imagetest.Random(2, 300))
	dst := f.destination(t, "a", "v1")
	for _, i := range []imagetest.Image{img, other} { // img is no longer the last
		if err := put(t.Context(), dst, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), img.Desc, true); err != nil {
		t.Error(err)
	}
	if _, _, err := f.source(t, "a", "v1").Resolve(t.Context(), string(other.Desc.Digest)); err != nil {
		t.Errorf("the other one is lost: %v", err)
	}
}

func TestCommitWithoutATag(t *testing.T) {
	f := newFar(t)
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 300))
	dst := f.destination(t, "a", "")
	if err := put(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	if puts := manifestPuts(f.log()); !slices.Equal(puts, []string{string(img.Desc.Digest)}) {
		t.Errorf("put as %q", puts)
	}
	if err := dst.Verify(t.Context(), img.Desc, false); err != nil {
		t.Error(err)
	}
}

func TestUncommittedManifestsAreNotSent(t *testing.T) {
	f := newFar(t)
	dst := f.destination(t, "a", "v1")
	if err := put(t.Context(), dst, imagetest.New(imagetest.Linux, nil)); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if puts := manifestPuts(f.log()); len(puts) != 0 {
		t.Errorf("put as %q", puts)
	}
}

func TestManifestRefused(t *testing.T) {
	img := imagetest.New(imagetest.Linux, nil)
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		want  error
		says  string
	}{
		{"invalid", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 400, "MANIFEST_INVALID") }, nil, "MANIFEST_INVALID"},
		{"no right", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 403, "DENIED") }, oci.ErrDenied, "a:v1"},
		{"taken for another", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:"+hex64)
			w.WriteHeader(http.StatusCreated)
			return true
		}, oci.ErrDigestMismatch, hex64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			f.fail(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && tt.fault(w, r)
			})
			dst := f.destination(t, "a", "v1")
			if err := put(t.Context(), dst, img); err != nil {
				t.Fatal(err)
			}
			err := dst.Commit(t.Context(), img.Desc, img.Desc)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestManifestPutIsRepeated(t *testing.T) {
	f := newFar(t)
	f.http = client(t, transport.Options{})
	f.fail(once("PUT", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool { return reset(w) }))
	img := imagetest.New(imagetest.Linux, nil)
	dst := f.destination(t, "a", "v1")
	if err := put(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsWhatIsLost(t *testing.T) {
	img := imagetest.Index(imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 3000)))
	layer := imagetest.Random(1, 3000)
	blob := "/blobs/" + string(layer.Desc.Digest)
	on := func(method, part string, fault func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == method && strings.Contains(r.URL.Path, part) && fault(w, r)
		}
	}
	gone := func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 404, "") }
	other := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Header().Set("Docker-Content-Digest", "sha256:"+hex64)
		w.Header().Set("Content-Length", "10")
		return true
	}
	rotten := func(w http.ResponseWriter, _ *http.Request) bool {
		b := bytes.Clone(layer.Bytes)
		b[7] ^= 1
		_, _ = w.Write(b)
		return true
	}
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		full  bool
		want  error
	}{
		{"the name is gone", on("HEAD", "/manifests/v1", gone), false, oci.ErrNotFound},
		{"the name is another image's", on("HEAD", "/manifests/v1", other), false, oci.ErrDigestMismatch},
		{"a child is gone", on("GET", string(img.Children[0].Desc.Digest), gone), true, oci.ErrNotFound},
		{"a layer is gone", on("GET", blob, gone), true, oci.ErrNotFound},
		{"a layer has rotted", on("GET", blob, rotten), true, oci.ErrDigestMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			dst := f.destination(t, "a", "v1")
			if err := put(t.Context(), dst, img); err != nil {
				t.Fatal(err)
			}
			if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
				t.Fatal(err)
			}
			f.fail(tt.fault)
			if err := dst.Verify(t.Context(), img.Desc, tt.full); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
