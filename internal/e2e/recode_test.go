package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// imageAt is an image as go-containerregistry sees it, which read and hashed
// every layer.
type imageAt struct {
	v1.Image
	config  v1.Hash
	diffIDs []v1.Hash
	types   []types.MediaType // of its layers
}

func seeLayers(t *testing.T, reference string) imageAt {
	t.Helper()
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := wholeImage(img); err != nil {
		t.Errorf("go-containerregistry, of %s: %v", reference, err)
	}
	at := imageAt{Image: img}
	if at.config, err = img.ConfigName(); err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	at.diffIDs = file.RootFS.DiffIDs
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		mt, err := l.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		at.types = append(at.types, mt)
	}
	return at
}

// wholeImage reads and hashes all of img. validate takes every layer for gzip.
func wholeImage(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	var opts []validate.Option
	for _, l := range layers {
		mt, err := l.MediaType()
		if err != nil {
			return err
		}
		if !strings.HasSuffix(string(mt), "gzip") {
			opts = []validate.Option{validate.Fast}
		}
		blob, err := l.Compressed()
		if err != nil {
			return err
		}
		size, err := l.Size()
		if err != nil {
			return err
		}
		if err := hashes(blob, size, l.Digest); err != nil {
			return err
		}
		tar, err := l.Uncompressed()
		if err != nil {
			return err
		}
		if err := hashes(tar, -1, l.DiffID); err != nil {
			return err
		}
	}
	return validate.Image(img, opts...)
}

func hashes(rc io.ReadCloser, size int64, said func() (v1.Hash, error)) error {
	defer rc.Close()
	is, n, err := v1.SHA256(rc)
	if err != nil {
		return err
	}
	want, err := said()
	if err == nil && (is != want || size >= 0 && n != size) {
		err = fmt.Errorf("%s of %d bytes, want %s of %d", is, n, want, size)
	}
	return err
}

// wholeIndex is wholeImage of all of an index's images.
func wholeIndex(ref name.Reference) error {
	idx, err := remote.Index(ref)
	if err != nil {
		return err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		img, err := idx.Image(d.Digest)
		if err == nil {
			err = wholeImage(img)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Digest, err)
		}
	}
	return validate.Index(idx, validate.Fast)
}

// TestRecodedRegistryCopies: whatever way layers are stored in a registry,
// another implementation finds the same image there; through a folder that keeps
// no manifest, too.
func TestRecodedRegistryCopies(t *testing.T) {
	tests := []struct {
		compression string
		layer       types.MediaType
	}{
		{"zstd", types.OCILayerZStd}, {"none", types.OCIUncompressedLayer}, {"gzip", types.OCILayer}, {"keep", types.OCILayer},
	}
	from, to := startRegistry(t, nil), startRegistry(t, nil)
	for kind, img := range map[string]imagetest.Image{"oci": image(1, 600_000, "amd64"), "docker": image(2, 600_000, "amd64").Docker()} {
		if err := img.Push(t.Context(), from.URL, "team/"+kind, "v1", ""); err != nil {
			t.Fatal(err)
		}
		was := seeLayers(t, from.host+"/team/"+kind+":v1")
		folder := "dir://" + filepath.Join(t.TempDir(), "folder")
		processed(t, "registry://"+from.host+"/team/"+kind+":v1", folder)
		for _, tt := range tests {
			for source, uri := range map[string]string{"registry": "registry://" + from.host + "/team/" + kind + ":v1", "folder": folder + ":team/" + kind + ":v1"} {
				t.Run(kind+" "+source+" "+tt.compression, func(t *testing.T) {
					repo := to.host + "/" + kind + "/" + source
					processed(t, uri, "registry://"+repo+":"+tt.compression+"?compression="+tt.compression, "--verify-full")
					got := seeLayers(t, repo+":"+tt.compression)
					if got.config != was.config || !slices.Equal(got.diffIDs, was.diffIDs) {
						t.Errorf("config %s with %v, want %s with %v", got.config, got.diffIDs, was.config, was.diffIDs)
					}
					mt, err := got.MediaType()
					if err != nil {
						t.Fatal(err)
					}
					if stays := kind == "docker" && source == "registry" && tt.compression != "zstd"; strings.Contains(string(mt), "docker") != stays {
						t.Errorf("the manifest is a %s", mt)
					}
					for _, l := range got.types {
						if strings.Contains(string(mt), "oci") && l != tt.layer {
							t.Errorf("a layer of %s, want %s", l, tt.layer)
						}
					}
					// And back, from there.
					processed(t, "registry://"+repo+":"+tt.compression, "registry://"+repo+":back?compression=gzip")
					if back := seeLayers(t, repo+":back"); back.config != was.config {
						t.Errorf("back again: config %s", back.config)
					}
				})
			}
		}
	}
}

func TestRecodedIndex(t *testing.T) {
	from, to := startRegistry(t, nil), startRegistry(t, nil)
	idx := imagetest.Index(image(1, 5000, "amd64"), image(3, 3000, "arm64"))
	for tag, img := range map[string]imagetest.Image{"oci": idx, "docker": idx.Docker()} {
		if err := img.Push(t.Context(), from.URL, "team/app", tag, ""); err != nil {
			t.Fatal(err)
		}
		for _, compression := range []string{"zstd", "none"} {
			processed(t, "registry://"+from.host+"/team/app:"+tag, "registry://"+to.host+"/team/app:"+tag+"-"+compression+"?compression="+compression)
			seen(t, to.host, "team/app:"+tag+"-"+compression, wholeIndex)
		}
	}
}

// skopeo reads what came of docker's image. It writes no zstd under docker's media
// types, which is why neither do we: then it wants OCI.
func TestSkopeoReadsRecodedImages(t *testing.T) {
	from := startRegistry(t, nil)
	img := image(2, 100_000, "amd64").Docker()
	if err := img.Push(t.Context(), from.URL, "team/app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	was, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for compression, format := range map[string]string{"zstd": "oci", "none": "v2s2"} {
		processed(t, "registry://"+from.host+"/team/app:v1", "registry://"+from.host+"/team/app:"+compression+"?compression="+compression)
		out := "dir:" + filepath.Join(t.TempDir(), "out")
		skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "--format", format, "docker://"+from.host+"/team/app:"+compression, out)
		var m oci.Manifest
		if err := json.Unmarshal(skopeo(t, "inspect", "--raw", out), &m); err != nil {
			t.Fatal(err)
		}
		if m.Config == nil || m.Config.Digest != was.Config.Digest || len(m.Layers) != len(was.Layers) {
			t.Errorf("%s: %+v, want config %s", compression, m, was.Config.Digest)
		}
	}
}
