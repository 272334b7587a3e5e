package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/archive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// plain is an image whose layers are stored as plain tar.
func plain(seed string, layers ...[]byte) imagetest.Image {
	var all []imagetest.Layer
	for _, raw := range layers {
		all = append(all, imagetest.Blob(ocispec.MediaTypeImageLayer, raw))
	}
	return imagetest.New(imagetest.Linux, map[string]string{"seed": seed}, all...)
}

func layerOf(name, body string) []byte { return imagetest.Tar(imagetest.File(name, body)) }

var (
	base = layerOf("etc/os-release", strings.Repeat("base", 5000))
	one  = plain("one", base, layerOf("srv/one", "one"), base)
	two  = plain("two", base, layerOf("srv/two", "two"))
)

func openTarget(t *testing.T, uri string, env backend.Env) oci.Target {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	target, err := archive.Kind.Target(t.Context(), u, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func openSource(uri string, env backend.Env) (backend.Images, error) {
	u, err := backend.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return archive.Kind.Source(context.Background(), u, env)
}

func mustOpen(t *testing.T, uri string) backend.Images {
	t.Helper()
	images, err := openSource(uri, backend.Env{Warn: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { images.Close() })
	return images
}

// put commits img as name and reports whether it was there.
func put(ctx context.Context, target oci.Target, name string, img imagetest.Image) (skipped bool, err error) {
	ref := oci.Ref{Tag: "1"}
	ref.Registry, ref.Repository, _ = strings.Cut(name, "/")
	if r, tag, ok := strings.Cut(ref.Repository, ":"); ok {
		ref.Repository, ref.Tag = r, tag
	}
	dst, err := target.Image(ctx, ref)
	if err != nil {
		return false, err
	}
	defer dst.Close()
	if d, err := dst.Head(ctx, ""); err == nil && d.Digest == img.Desc.Digest {
		return true, nil
	} else if err != nil && !errors.Is(err, oci.ErrNotFound) {
		return false, err
	}
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		return false, err
	}
	var g errgroup.Group
	for i, d := range m.Blobs() {
		g.Go(func() error {
			if ok, err := dst.Has(ctx, d); ok || err != nil {
				return err
			}
			_, err := dst.PutBlob(ctx, oci.Blob{Desc: d, Layer: i - 1, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(img.Blobs[d.Digest])), nil
			}})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if _, err := dst.PutManifest(ctx, img.Raw, img.Desc.MediaType); err != nil {
		return false, err
	}
	if err := dst.Commit(ctx, img.Desc, img.Desc); err != nil {
		return false, err
	}
	return false, dst.Verify(ctx, img.Desc, true)
}

// run puts images, in pairs of name and image, into uri as one run does.
func run(t *testing.T, uri string, env backend.Env, images ...any) (skipped int, err error) {
	t.Helper()
	target := openTarget(t, uri, env)
	for i := 0; i < len(images); i += 2 {
		was, err := put(t.Context(), target, images[i].(string), images[i+1].(imagetest.Image))
		if err != nil {
			return skipped, err
		}
		if was {
			skipped++
		}
	}
	return skipped, target.Finish(t.Context())
}

func mustRun(t *testing.T, uri string, images ...any) (skipped int) {
	t.Helper()
	n, err := run(t, uri, backend.Env{Warn: func(s string) { t.Log(s) }}, images...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// names lists what a source has.
func names(t *testing.T, images backend.Images) []string {
	t.Helper()
	var all []string
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item.Ref.String())
	}
	return all
}

// same compares an image of a source, by its name there, with img.
func same(t *testing.T, images backend.Images, name string, img imagetest.Image) {
	t.Helper()
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Ref.String() != name {
			continue
		}
		src, err := images.Source(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		d, raw, err := src.Resolve(t.Context(), item.Ref.Reference())
		if err != nil {
			t.Fatal(err)
		}
		got, err := oci.ParseManifest(d.MediaType, raw)
		if err != nil {
			t.Fatal(err)
		}
		want, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got.Blobs(), want.Blobs(), func(a, b oci.Descriptor) bool { return a.Digest == b.Digest && a.Size == b.Size }) {
			t.Errorf("%s has %v, want %v", name, got.Blobs(), want.Blobs())
		}
		for _, b := range got.Blobs() {
			rc, err := src.Fetch(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(rc)
			if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(body, img.Blobs[b.Digest]) {
				t.Errorf("%s: %d bytes of %s, %v", name, len(body), b.Digest, err)
			}
		}
		return
	}
	t.Errorf("there is no %s", name)
}

// only checks that dir has nothing but the files names.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("the folder has %q, want %q", got, names)
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "a.tar")
	target := openTarget(t, "tar://"+path, backend.Env{})
	if got := target.Traits(); !got.Many || !got.Raw || !got.Late || got.Index {
		t.Errorf("traits %+v", got)
	}
	only(t, dir) // to open it leaves no trace
	if n := mustRun(t, "tar://"+path, "quay.io/a/one:1", one, "quay.io/a/two:1", two); n != 0 {
		t.Errorf("%d were there", n)
	}
	only(t, filepath.Join(dir, "new"), "a.tar")
	images := mustOpen(t, "tar://"+path)
	if got := names(t, images); !slices.Equal(got, []string{"quay.io/a/one:1", "quay.io/a/two:1"}) || !images.Bulk() {
		t.Errorf("names %q", got)
	}
	same(t, images, "quay.io/a/one:1", one)
	same(t, images, "quay.io/a/two:1", two)

	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := mustRun(t, "tar://"+path, "quay.io/a/two:1", two, "quay.io/a/one:1", one); n != 2 {
		t.Errorf("the second run found %d, want 2", n)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second run made the file anew (%v)", err)
	}
}

func TestSameBytesInAnyOrder(t *testing.T) {
	var want []byte
	for i, images := range [][]any{
		{"quay.io/a/one:1", one, "quay.io/a/two:1", two},
		{"quay.io/a/two:1", two, "quay.io/a/one:1", one},
	} {
		path := filepath.Join(t.TempDir(), "a.tar")
		if i == 1 { // also in two runs
			mustRun(t, "tar://"+path, images[:2]...)
			images = images[2:]
		}
		mustRun(t, "tar://"+path, images...)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Error("the second archive has other bytes")
		}
	}
}

func TestWhatIsThereIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	mustRun(t, "tar://"+path, "quay.io/a/one:1", one)
	var said []string
	if _, err := run(t, "tar://"+path, backend.Env{Warn: func(s string) { said = append(said, s) }}, "quay.io/a/two:1", two); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "kept 1 images") {
		t.Errorf("the user was told %q", said)
	}
	if got := names(t, mustOpen(t, "tar://"+path)); len(got) != 2 {
		t.Errorf("names %q", got)
	}
	mustRun(t, "tar://"+path, "quay.io/a/one:1", two) // in place of the other
	same(t, mustOpen(t, "tar://"+path), "quay.io/a/one:1", two)
	mustRun(t, "tar://"+path+"?overwrite=true", "quay.io/a/two:1", two)
	if got := names(t, mustOpen(t, "tar://"+path)); !slices.Equal(got, []string{"quay.io/a/two:1"}) {
		t.Errorf("with overwrite there is %q", got)
	}
	same(t, mustOpen(t, "tar://"+path), "quay.io/a/two:1", two)
}

// docker is an archive of another program: with one layer, and packed as pack
// says.
func docker(pack func([]byte) []byte, tags ...string) []byte {
	img := plain("docker", base)
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		panic(err)
	}
	raw, err := json.Marshal([]map[string]any{{"Config": "c.json", "RepoTags": tags, "Layers": []string{"l/layer.tar"}}})
	if err != nil {
		panic(err)
	}
	return imagetest.Tar(imagetest.File("l/layer.tar", string(pack(base))), imagetest.File("c.json", string(img.Blobs[m.Config.Digest])), imagetest.File("manifest.json", string(raw)))
}

func asIs(b []byte) []byte { return b }

func gzipped(b []byte) []byte { return imagetest.Gzip(b).Bytes }

func write(t *testing.T, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, raw, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAddingToDockersArchive(t *testing.T) {
	path := write(t, docker(asIs, "busybox:latest", "other:1"))
	mustRun(t, "tar://"+path, "docker.io/library/busybox:latest", one)
	images := mustOpen(t, "tar://"+path)
	if got := names(t, images); !slices.Equal(got, []string{"docker.io/library/busybox:latest", "other:1"}) {
		t.Errorf("names %q", got)
	}
	same(t, images, "docker.io/library/busybox:latest", one)
	same(t, images, "other:1", plain("docker", base))
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want what it was", fi.Mode(), err)
	}
}
