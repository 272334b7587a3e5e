package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// skopeo reads a layout as "oci:PATH:NAME": the path ends at the first colon,
// so that a name may be a whole reference; NAME may be left away where there is
// one image (containers/image, oci/internal, v5.22, read 2026-08).
func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "skopeo"), append([]string{"--insecure-policy", "--override-os=linux", "--override-arch=amd64"}, args...)...)
	cmd.Env = toolEnv(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %q: %v\n%s", args, err, &stderr)
	}
	return out
}

// acceptedBySkopeo lets skopeo inspect img and copy it out of a layout.
func acceptedBySkopeo(t *testing.T, place string, img imagetest.Image) {
	t.Helper()
	raw := skopeo(t, "inspect", "--raw", place)
	if got := digest.FromBytes(raw); got != img.Desc.Digest {
		t.Errorf("inspect %s: the manifest is %s, want %s", place, got, img.Desc.Digest)
	}
	var seen struct {
		Digest oci.Digest
		Layers []oci.Digest
	}
	if err := json.Unmarshal(skopeo(t, "inspect", place), &seen); err != nil {
		t.Fatal(err)
	}
	want := imageFor(img)
	if parsed, err := oci.ParseManifest(want.Desc.MediaType, want.Raw); err != nil || !slices.EqualFunc(parsed.Layers, seen.Layers, func(d oci.Descriptor, l oci.Digest) bool { return d.Digest == l }) {
		t.Errorf("inspect %s: layers %q, %v", place, seen.Layers, err)
	}
	if seen.Digest != img.Desc.Digest {
		t.Errorf("inspect %s: digest %s, want %s", place, seen.Digest, img.Desc.Digest)
	}

	out := filepath.Join(t.TempDir(), "out")
	skopeo(t, "copy", "--quiet", "--all", "--preserve-digests", place, "dir:"+out)
	hashes := map[oci.Digest]bool{}
	for _, e := range readDir(t, out) {
		b, err := os.ReadFile(filepath.Join(out, e))
		if err != nil {
			t.Fatal(err)
		}
		hashes[digest.FromBytes(b)] = true
	}
	missing := func(d oci.Digest) {
		if !hashes[d] {
			t.Errorf("copy %s: it lacks %s", place, d)
		}
	}
	missing(img.Desc.Digest)
	for _, c := range img.Children {
		missing(c.Desc.Digest)
	}
	for d := range blobsOf(img) {
		missing(d)
	}
}

// imageFor is the image that skopeo looks at: of an index, the first, which is
// linux/amd64.
func imageFor(img imagetest.Image) imagetest.Image {
	if len(img.Children) > 0 {
		return img.Children[0]
	}
	return img
}

func readDir(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSkopeoReadsOurLayouts(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	q.fill(t, 4, 20_000)
	q.push(t, "org/deep/er/app:v1.0_rc-1", image(7, 3000, "amd64"))

	t.Run("many images in one layout, under full references", func(t *testing.T) {
		layout := filepath.Join(t.TempDir(), "layout")
		processed(t, "quay://org/*:v1*?host="+q.host, "ocidir://"+layout)
		for name, img := range q.images {
			acceptedBySkopeo(t, "oci:"+layout+":"+q.host+"/"+name, img)
		}
	})
	single := []struct {
		name, image string
		ref, ask    string // with the colon
	}{
		{"one image, asked for without a name", "org/app-00:v1", "", ""},
		{"one image under its full reference", "org/app-00:v1", "", ":" + q.host + "/org/app-00:v1"},
		{"one index", "org/app-03:v1", "", ":" + q.host + "/org/app-03:v1"},
		{"a bare tag", "org/app-01:v1", ":stable-1.2", ":stable-1.2"},
		{"an index under a bare tag", "org/app-03:v1", ":stable", ":stable"},
		{"another reference", "org/app-02:v1", ":quay.example.com:8443/a/b/c:d", ":quay.example.com:8443/a/b/c:d"},
	}
	for _, tt := range single {
		t.Run(tt.name, func(t *testing.T) {
			layout := filepath.Join(t.TempDir(), "layout")
			processed(t, "registry://"+q.host+"/"+tt.image, "ocidir://"+layout+tt.ref)
			acceptedBySkopeo(t, "oci:"+layout+tt.ask, q.images[tt.image])
		})
	}
}
