package daemon_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// makeForms writes the forms that no daemon of this machine has, after what
// Docker 29's sources write and what was seen of it.
func makeForms(t *testing.T) {
	t.Helper()
	img := small(t)
	docker := loadForm(t, "docker-20.10") // whose answers the newer one's graph store gives
	for name, containerd := range map[string]bool{"docker-29-graph": false, "docker-29-containerd": true} {
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.config.Desc}
		var blobs []imagetest.Layer
		for i, l := range img.layers {
			if containerd {
				l = imagetest.Gzip(l.Bytes)
			} else {
				blobs = append(blobs, imagetest.Blob("", marshal(t, map[string]any{"id": strings.Repeat("0", 63) + string(rune('0'+i)), "created": time.Unix(0, 0).UTC(), "os": "linux",
					"container_config": map[string]any{"Hostname": "", "Cmd": nil, "Image": ""}})))
			}
			m.Layers = append(m.Layers, l.Desc)
			blobs = append(blobs, l)
		}
		manifest := imagetest.Blob(m.MediaType, marshal(t, m))
		blobs = append(blobs, img.config, manifest)
		f := docker
		if containerd {
			var is map[string]any
			if err := json.Unmarshal(docker.Inspect, &is); err != nil {
				t.Fatal(err)
			}
			is["Id"], is["Descriptor"] = manifest.Desc.Digest, manifest.Desc
			f.Inspect = marshal(t, is)
		}
		f.save = savedLayout(t, img, blobs, manifest.Desc, containerd)
		f.write(t, name)
	}
}

// savedLayout gives an archive of blobs in the order of their names.
func savedLayout(t *testing.T, img plainImage, blobs []imagetest.Layer, manifest oci.Descriptor, containerd bool) []byte {
	t.Helper()
	folder := func(name string) member {
		return member{&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0)}, nil}
	}
	file := func(name string, body []byte) member {
		return member{&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(0, 0)}, body}
	}
	at := func(d oci.Digest) string { return "blobs/sha256/" + d.Encoded() }
	list := []member{folder("blobs/"), folder("blobs/sha256/")}
	slices.SortFunc(blobs, func(a, b imagetest.Layer) int { return strings.Compare(string(a.Desc.Digest), string(b.Desc.Digest)) })
	blobs = slices.CompactFunc(blobs, func(a, b imagetest.Layer) bool { return bytes.Equal(a.Bytes, b.Bytes) })
	for _, b := range blobs {
		list = append(list, file(at(b.Desc.Digest), b.Bytes))
	}
	var layers []string
	for _, l := range img.layers {
		if containerd {
			l = imagetest.Gzip(l.Bytes)
		}
		layers = append(layers, at(l.Desc.Digest))
	}
	entry := []map[string]any{{"Config": at(img.config.Desc.Digest), "RepoTags": nil, "Layers": layers}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []oci.Descriptor{manifest}}
	list = append(list, file("index.json", marshal(t, index)), file("manifest.json", marshal(t, entry)), file("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`)))
	return archiveOf(t, list)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
