package archive_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// several has three images, two of them with a tag that is the same.
func several(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "a.tar")
	mustRun(t, "tar://"+path, "quay.io/kolla/nova:1", one, "quay.io/kolla/glance:1", two, "docker.io/library/busybox:latest", one)
	return path
}

func TestPickingAnImage(t *testing.T) {
	path := several(t)
	config := func(img imagetest.Image) string {
		m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Config.Digest)
	}
	tests := []struct {
		ref  string
		want string
		err  error
	}{
		{"quay.io/kolla/nova:1", "quay.io/kolla/nova:1", nil},
		{"busybox", "docker.io/library/busybox:latest", nil},
		{"busybox:latest", "docker.io/library/busybox:latest", nil},
		{"docker.io/busybox", "docker.io/library/busybox:latest", nil},
		{"kolla/glance:1", "quay.io/kolla/glance:1", nil},
		{"latest", "docker.io/library/busybox:latest", nil},
		{config(two), "quay.io/kolla/glance:1", nil},
		{"1", "", oci.ErrUsage},
		{"2", "", oci.ErrNotFound},
		{"quay.io/kolla/nova:2", "", oci.ErrNotFound},
		{"docker.io/kolla/nova:1", "", oci.ErrNotFound},
		{"no name", "", oci.ErrNotFound},
	}
	for _, tt := range tests {
		images := mustOpen(t, "tar://"+path+":"+tt.ref)
		var got []string
		var err error
		for item, e := range images.Discover(t.Context()) {
			if err = e; e == nil {
				got = append(got, item.Ref.String())
			}
		}
		if !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want %v with the file's name", tt.ref, err, tt.err)
		}
		if tt.err == nil && !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: %q, want %s", tt.ref, got, tt.want)
		}
		if images.Bulk() {
			t.Errorf("%s stands for any number", tt.ref)
		}
	}
}

func TestAnImageWithoutName(t *testing.T) {
	images := mustOpen(t, "tar://"+write(t, docker(gzipped)))
	got := names(t, images)
	if len(got) != 1 || !oci.IsDigest(got[0]) {
		t.Fatalf("names %q, want the config's digest", got)
	}
	same(t, images, got[0], plain("docker", base))
}

// TestABrokenImageHidesNoOther: one that has no name either is told of.
func TestABrokenImageHidesNoOther(t *testing.T) {
	img := plain("docker", base)
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, imagetest.Tar(imagetest.File("l", string(base)), imagetest.File("c", string(img.Blobs[m.Config.Digest])), imagetest.File("broken", "{"),
		imagetest.File("manifest.json", `[{"Config":"broken","Layers":["l"]},{"Config":"c","RepoTags":["app:1"],"Layers":["l"]}]`)))
	images := mustOpen(t, "tar://"+path)
	var failed []error
	for _, err := range images.Discover(t.Context()) {
		failed = append(failed, err)
	}
	if len(failed) != 2 || failed[0] != nil || !errors.Is(failed[1], oci.ErrInvalid) || !strings.Contains(failed[1].Error(), path) {
		t.Errorf("listed with %v, want the image, and an error that names the file", failed)
	}
	same(t, mustOpen(t, "tar://"+path+":app:1"), "app:1", img)
}

func TestUnreadableNamesAreTold(t *testing.T) {
	var said []string
	images, err := openSource("tar://"+write(t, docker(asIs, "a:1", "UPPER:1")), backend.Env{Warn: func(s string) { said = append(said, s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	if got := names(t, images); !slices.Equal(got, []string{"a:1"}) || len(said) != 1 || !strings.Contains(said[0], "UPPER:1") {
		t.Errorf("names %q, told %q", got, said)
	}
}

func TestSourceErrorsNameTheFile(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "none.tar")
	legacy := write(t, imagetest.Tar(imagetest.File("repositories", "{}")))
	cut := docker(asIs, "a:1")[:3000]
	tests := []struct {
		path, text string
		want       error
	}{
		{gone, "no such file", oci.ErrNotFound},
		{t.TempDir(), "folder", oci.ErrUsage},
		{legacy, "docker load and docker save", oci.ErrUsage},
		{write(t, cut), "truncated", oci.ErrInvalid},
		{write(t, []byte("text")), "truncated", oci.ErrInvalid},
	}
	for _, tt := range tests {
		if _, err := openSource("tar://"+tt.path, backend.Env{}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: %v, want %v with %q", tt.path, err, tt.want, tt.text)
		}
	}
}

// withLayout is an archive of docker since version 25: an OCI layout of img, from
// which the blobs in without are left out, and a manifest.json.
func withLayout(t *testing.T, img imagetest.Image, without ...oci.Digest) string {
	t.Helper()
	d := img.Desc
	d.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/app:1", layout.RefAnnotation: "1"}
	index, err := json.Marshal(ocispec.Index{Manifests: []oci.Descriptor{d}})
	if err != nil {
		t.Fatal(err)
	}
	entries := []imagetest.Entry{
		imagetest.File("oci-layout", string(layout.Marker())),
		imagetest.File("index.json", strings.Replace(string(index), `"schemaVersion":0`, `"schemaVersion":2`, 1)),
		imagetest.File("manifest.json", "[]"),
	}
	all := map[oci.Digest][]byte{}
	var gather func(imagetest.Image)
	gather = func(i imagetest.Image) {
		all[i.Desc.Digest] = i.Raw
		maps.Copy(all, i.Blobs)
		for _, c := range i.Children {
			gather(c)
		}
	}
	gather(img)
	for d, b := range all {
		if !slices.Contains(without, d) {
			entries = append(entries, imagetest.File(layout.BlobPath(d), string(b)))
		}
	}
	return write(t, imagetest.Tar(entries...))
}

func TestALayoutInTheArchiveIsReadAsItIs(t *testing.T) {
	img := imagetest.Index(
		imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000)),
		imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, imagetest.Random(2, 1000)),
	)
	arm := img.Children[1]
	t.Run("whole", func(t *testing.T) {
		images := mustOpen(t, "tar://"+withLayout(t, img))
		for item, err := range images.Discover(t.Context()) {
			if err != nil || item.Ref.String() != "docker.io/library/app:1" || item.Desc.Digest != img.Desc.Digest || !item.IsIndex {
				t.Errorf("%+v, %v", item, err)
			}
		}
	})
	t.Run("one platform", func(t *testing.T) {
		var said []string
		images, err := openSource("tar://"+withLayout(t, img, arm.Desc.Digest)+":1", backend.Env{Warn: func(s string) { said = append(said, s) }})
		if err != nil {
			t.Fatal(err)
		}
		defer images.Close()
		amd := img.Children[0]
		for item, err := range images.Discover(t.Context()) {
			if err != nil || item.Desc.Digest != amd.Desc.Digest || item.IsIndex || item.Ref.String() != "docker.io/library/app:1" || item.Bytes <= 0 {
				t.Fatalf("%+v, %v", item, err)
			}
			src, err := images.Source(t.Context(), item)
			if err != nil {
				t.Fatal(err)
			}
			if _, raw, err := src.Resolve(t.Context(), "1"); err != nil || string(raw) != string(amd.Raw) {
				t.Errorf("resolved to %s, %v", raw, err)
			}
		}
		if len(said) != 1 || !strings.Contains(said[0], "one of the 2 manifests") {
			t.Errorf("told %q", said)
		}
	})
	t.Run("a layer missing", func(t *testing.T) {
		m, err := oci.ParseManifest(arm.Desc.MediaType, arm.Raw)
		if err != nil {
			t.Fatal(err)
		}
		images := mustOpen(t, "tar://"+withLayout(t, img, m.Layers[0].Digest))
		for item, err := range images.Discover(t.Context()) {
			if err != nil || item.Desc.Digest != img.Children[0].Desc.Digest {
				t.Errorf("%+v, %v", item, err)
			}
		}
	})
}

func TestPipes(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	out := filepath.Join(t.TempDir(), "out")
	for _, p := range []string{in, out} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan []byte)
	go func() {
		raw, _ := os.ReadFile(out)
		got <- raw
	}()
	mustRun(t, "tar://"+out, "quay.io/a/one:1", one)
	raw := <-got
	file := filepath.Join(t.TempDir(), "a.tar")
	mustRun(t, "tar://"+file, "quay.io/a/one:1", one)
	if want, err := os.ReadFile(file); err != nil || string(want) != string(raw) {
		t.Errorf("%d bytes came through the pipe, a file has %d (%v)", len(raw), len(want), err)
	}
	go os.WriteFile(in, gzipped(raw), 0o600)
	same(t, mustOpen(t, "tar://"+in), "quay.io/a/one:1", one)
}
