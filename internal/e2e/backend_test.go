package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

func env(t testing.TB, o transport.Options) backend.Env {
	t.Helper()
	tr, err := transport.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	return backend.Env{HTTP: tr.Client(), PlainHTTP: true}
}

// destination opens host/repo:tag to be written to.
func destination(t testing.TB, e backend.Env, host, repo, tag string) oci.Destination {
	t.Helper()
	u, err := backend.ParseURI("registry://" + host)
	if err != nil {
		t.Fatal(err)
	}
	target, err := registry.Kind.Target(t.Context(), u, e)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := target.Image(t.Context(), oci.Ref{Registry: host, Repository: repo, Tag: tag})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(dst.Close(), target.Close()); err != nil {
			t.Error(err)
		}
	})
	return dst
}

func blob(b []byte) oci.Blob {
	return oci.Blob{
		Desc:  oci.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(b), Size: int64(len(b))},
		Layer: -1,
		Open:  func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

// write puts img with all that it needs, children first, without a name.
func write(ctx context.Context, dst oci.Destination, img imagetest.Image) error {
	for _, c := range img.Children {
		if err := write(ctx, dst, c); err != nil {
			return err
		}
	}
	for _, b := range img.Blobs {
		if _, err := dst.PutBlob(ctx, blob(b)); err != nil {
			return err
		}
	}
	_, err := dst.PutManifest(ctx, img.Raw, img.Desc.MediaType)
	return err
}

func image(seed uint64, size int, arch string) imagetest.Image {
	return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, map[string]string{"a": "b"},
		imagetest.Random(seed, size), imagetest.Files(map[string]string{"etc/motd": "welcome"}))
}

// artifact is a manifest that is no image: an empty config, and a layer that is
// no file system.
func artifact() imagetest.Image {
	body, empty := []byte("a statement"), []byte("{}")
	d := imagetest.Blob("application/vnd.example.statement", body).Desc
	c := imagetest.Blob("application/vnd.oci.empty.v1+json", empty).Desc
	part := func(d oci.Descriptor) string {
		return `{"mediaType":"` + d.MediaType + `","digest":"` + string(d.Digest) + `","size":` + strconv.FormatInt(d.Size, 10) + `}`
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","artifactType":"application/vnd.example.statement",` +
		` "config":` + part(c) + `,  "layers":[` + part(d) + `]}`) // its own spacing, which has to survive
	return imagetest.Image{Desc: imagetest.Blob(oci.MediaTypeManifest, raw).Desc, Raw: raw, Blobs: map[oci.Digest][]byte{d.Digest: body, c.Digest: empty}}
}

// TestWhatIsPushedIsValid pushes through backend/registry and lets
// go-containerregistry read it back.
func TestWhatIsPushedIsValid(t *testing.T) {
	tests := []struct {
		name string
		img  imagetest.Image
		see  func(ref name.Reference) error
	}{
		{"image", image(1, 5000, "amd64"), seeImage},
		{"image with a layer over 1 MiB", image(2, 3<<20, "amd64"), seeImage},
		{"index", imagetest.Index(image(1, 5000, "amd64"), image(3, 3000, "arm64")), seeIndex},
		{"artifact", artifact(), func(ref name.Reference) error { _, err := remote.Get(ref); return err }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			far := startRegistry(t, nil)
			e := env(t, transport.Options{})
			dst := destination(t, e, far.host, "team/app", "v1")
			if err := write(t.Context(), dst, tt.img); err != nil {
				t.Fatal(err)
			}
			if err := dst.Commit(t.Context(), tt.img.Desc, tt.img.Desc); err != nil {
				t.Fatal(err)
			}
			if err := dst.Verify(t.Context(), tt.img.Desc, true); err != nil {
				t.Error(err)
			}
			ref, err := name.ParseReference(far.host+"/team/app:v1", name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.see(ref); err != nil {
				t.Errorf("go-containerregistry: %v", err)
			}
			got, err := remote.Get(ref)
			if err != nil || !bytes.Equal(got.Manifest, tt.img.Raw) || string(got.MediaType) != tt.img.Desc.MediaType {
				t.Errorf("it has other bytes: %v", err)
			}
		})
	}
}

func seeImage(ref name.Reference) error {
	img, err := remote.Image(ref)
	if err != nil {
		return err
	}
	return validate.Image(img)
}

func seeIndex(ref name.Reference) error {
	idx, err := remote.Index(ref)
	if err != nil {
		return err
	}
	return validate.Index(idx)
}

func TestUploadOfUnknownDigest(t *testing.T) {
	far := startRegistry(t, nil)
	dst := destination(t, env(t, transport.Options{}), far.host, "a", "v1")
	for _, size := range []int{0, 1000, 5 << 20} {
		b := blob(bytes.Repeat([]byte("x"), size))
		want := b.Desc
		b.Desc.Digest, b.Desc.Size = "", -1
		d, err := dst.PutBlob(t.Context(), b)
		if err != nil || d.Digest != want.Digest || d.Size != want.Size {
			t.Errorf("%d bytes: got %+v, %v", size, d, err)
		}
		if there, err := dst.Has(t.Context(), want); err != nil || !there {
			t.Errorf("%d bytes: has %v, %v", size, there, err)
		}
	}
}

func TestMounts(t *testing.T) {
	far := startRegistry(t, nil)
	e := env(t, transport.Options{})
	b := blob([]byte("shared"))
	if _, err := destination(t, e, far.host, "a", "v1").PutBlob(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	dst := destination(t, e, far.host, "b", "v1")
	if mounted, err := dst.(oci.Mounter).Mount(t.Context(), b.Desc, "a"); err != nil || !mounted {
		t.Errorf("mount: %v, %v", mounted, err)
	}
	// What isn't there is refused with an upload session, which is then used.
	other := blob([]byte("not shared"))
	if mounted, err := dst.(oci.Mounter).Mount(t.Context(), other.Desc, "a"); err != nil || mounted {
		t.Errorf("mount of what isn't there: %v, %v", mounted, err)
	}
	if _, err := dst.PutBlob(t.Context(), other); err != nil {
		t.Error(err)
	}
	for _, d := range []oci.Descriptor{b.Desc, other.Desc} {
		if there, err := dst.Has(t.Context(), d); err != nil || !there {
			t.Errorf("has: %v, %v", there, err)
		}
	}
}

func TestFetchGoesOnWhereItBroke(t *testing.T) {
	var cut atomic.Int32
	far := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && cut.Add(1) <= 3 {
				w = &cutter{w, 1 << 20}
			}
			next.ServeHTTP(w, r)
		})
	})
	e := env(t, transport.Options{})
	b := blob(imagetest.Random(1, 5<<20).Bytes)
	if _, err := destination(t, e, far.host, "a", "v1").PutBlob(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	src, err := registry.Open(oci.Ref{Registry: far.host, Repository: "a", Tag: "v1"}, e)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := src.Fetch(t.Context(), b.Desc)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if n, err := io.Copy(io.Discard, rc); err != nil || n != b.Desc.Size || cut.Load() != 4 {
		t.Errorf("%d of %d bytes in %d requests, %v", n, b.Desc.Size, cut.Load(), err)
	}
}

// A cutter drops the connection after left bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left]) // it breaks anyway
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func TestLogin(t *testing.T) {
	far := startPrivate(t, "alice", "secret")
	img := image(1, 3<<20, "amd64")
	dst := destination(t, env(t, transport.Options{Credentials: transport.Fixed(far.host, "alice", "secret")}), far.host, "a", "v1")
	if err := write(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"", "wrong"} {
		o := transport.Options{}
		if password != "" {
			o.Credentials = transport.Fixed(far.host, "alice", password)
		}
		src, err := registry.Open(oci.Ref{Registry: far.host, Repository: "a", Tag: "v1"}, env(t, o))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := src.Resolve(t.Context(), ""); !errors.Is(err, oci.ErrDenied) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("password %q: got %v", password, err)
		}
	}
}
