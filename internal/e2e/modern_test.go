//go:build interop_full

package e2e

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestModernDocker is Docker 29 and later with each of its stores: whatever way an
// image goes in, and whatever way it comes out, it is the same.
func TestModernDocker(t *testing.T) {
	path, err := filepath.Abs("../../.bin/dockerd-modern")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run make interop-full", err)
	}
	t.Run("graph store", func(t *testing.T) {
		throughModern(t, daemontest.ModernDocker(t, path, daemontest.Graph), daemontest.Graph)
	})
	t.Run("containerd store", func(t *testing.T) {
		throughModern(t, daemontest.ModernDocker(t, path, daemontest.Containerd), daemontest.Containerd)
	})
}

func throughModern(t *testing.T, d daemontest.Daemon, store daemontest.Store) {
	img := image(41, 100_000, "amd64")
	layout := "ocidir://" + layoutOf(t, img) + ":v1"
	dir := t.TempDir()
	for _, way := range []string{"docker", "tar", "skopeo", "oci-archive"} {
		t.Run("in by "+way, func(t *testing.T) {
			name := "example.com/by/" + way + ":v1"
			file := filepath.Join(dir, way+".tar")
			switch way {
			case "docker":
				processed(t, layout, "docker://"+name+"?socket="+d.Socket, "--verify-full")
			case "tar":
				processed(t, layout, "tar://"+file+":"+name)
				d.Do(t, "load", "--input", file)
			case "oci-archive":
				processed(t, layout, "oci-archive://"+file+":"+name)
				if store == daemontest.Graph { // which wants archives of docker save
					if out, err := d.Command(t.Context(), "load", "--input", file).CombinedOutput(); err == nil {
						t.Errorf("it loads what docs/daemons.md says it doesn't: %s", out)
					}
					return
				}
				d.Do(t, "load", "--input", file)
			case "skopeo":
				skopeo(t, "copy", "--quiet", "oci:"+strings.TrimSuffix(strings.TrimPrefix(layout, "ocidir://"), ":v1"), "docker-archive:"+file+":"+name)
				d.Do(t, "load", "--input", file)
			}
			outOfModern(t, d, name, img, way == "oci-archive")
		})
	}
	t.Run("a second run", func(t *testing.T) {
		again := func(name string) result { return processed(t, layout, "docker://"+name+"?socket="+d.Socket) }
		nothing := strings.Contains(again("example.com/by/docker:v1").stderr, "1 up to date")
		if want := store == daemontest.Graph; nothing != want { // the other's ID of it is of a manifest that it made
			t.Errorf("it loads nothing: %v, want %v", nothing, want)
		}
	})
	t.Run("many", func(t *testing.T) {
		all := filepath.Join(dir, "all")
		for i, name := range []string{"example.com/a/x:1", "example.com/b/x:1"} {
			processed(t, "ocidir://"+layoutOf(t, image(uint64(50+i), 5000, "amd64"))+":v1", "ocidir://"+all+":"+name)
		}
		processed(t, "ocidir://"+all, "docker://?socket="+d.Socket, "--verify-full")
		for _, name := range []string{"example.com/a/x:1", "example.com/b/x:1"} {
			d.Do(t, "image", "inspect", name)
		}
	})
}

// outOfModern gets an image in every way out of d. whole says that the store has
// its manifest too.
func outOfModern(t *testing.T, d daemontest.Daemon, name string, img imagetest.Image, whole bool) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved.tar")
	d.Do(t, "save", "--output", saved, name)
	sources := map[string]string{
		"docker://": "docker://" + name + "?socket=" + d.Socket, "docker save": "tar://" + saved + ":" + name,
		"dockerpush://": "dockerpush://" + name + "?socket=" + d.Socket,
	}
	t.Logf("%s: docker save has %q", name, namesIn(t, saved))
	digests := map[string]oci.Digest{}
	want, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for what, uri := range sources {
		out := filepath.Join(t.TempDir(), "layout")
		processed(t, uri, "ocidir://"+out+":v1")
		must(t, "check", "ocidir://"+out+":v1") // which reads plain layers too
		digests[what] = onlyDigest(t, out)
		var m ocispec.Manifest // docker's, from the graph store's push
		raw, err := os.ReadFile(filepath.Join(out, "blobs", "sha256", digests[what].Encoded()))
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Config.Digest != want.Config.Digest || len(m.Layers) != len(want.Layers) { // so the diff_ids are the same, which check held against the layers
			t.Errorf("from %s comes config %s with %d layers, want %s with %d", what, m.Config.Digest, len(m.Layers), want.Config.Digest, len(want.Layers))
		}
		if whole && digests[what] != img.Desc.Digest {
			t.Errorf("from %s comes %s, want the manifest as it was, %s", what, digests[what], img.Desc.Digest)
		}
	}
	t.Logf("%s: manifests %v", name, digests)
}

// namesIn gives the names in a tar, with "…" for digests.
func namesIn(t *testing.T, path string) (names []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if name := digestRE.ReplaceAllString(h.Name, "…"); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
}

var digestRE = regexp.MustCompile("[0-9a-f]{64}")
