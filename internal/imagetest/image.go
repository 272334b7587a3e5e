// Package imagetest makes small real images for tests: layers that are gzip-ed
// tars of files, configs with history, manifests and indexes. The same seed
// gives the same bytes.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// An Image is one image or index with all that it needs.
type Image struct {
	Desc     oci.Descriptor // of Raw
	Raw      []byte         // the manifest
	Blobs    map[oci.Digest][]byte
	Children []Image // of an index
}

// A Layer is one layer blob.
type Layer struct {
	Desc   oci.Descriptor
	DiffID oci.Digest
	Bytes  []byte
}

// Files makes a gzip-ed OCI layer that holds the files name -> content.
func Files(files map[string]string) Layer {
	var raw bytes.Buffer
	tw := tar.NewWriter(&raw)
	for _, name := range sortedKeys(files) {
		must(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(1700000000, 0)}))
		_, err := tw.Write([]byte(files[name]))
		must(err)
	}
	must(tw.Close())
	return Gzip(raw.Bytes())
}

// Random makes a gzip-ed layer of one file with size random bytes.
func Random(seed uint64, size int) Layer {
	rng := rand.New(rand.NewPCG(seed, 1))
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return Files(map[string]string{fmt.Sprintf("data/%d", seed): string(body)})
}

// Gzip makes a layer of a raw tar.
func Gzip(raw []byte) Layer {
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, err := zw.Write(raw)
	must(err)
	must(zw.Close())
	l := Blob(ocispec.MediaTypeImageLayerGzip, z.Bytes())
	l.DiffID = digest.FromBytes(raw)
	return l
}

// Blob makes a layer of bytes as they are; DiffID is theirs.
func Blob(mt string, b []byte) Layer {
	d := digest.FromBytes(b)
	return Layer{Desc: oci.Descriptor{MediaType: mt, Digest: d, Size: int64(len(b))}, DiffID: d, Bytes: b}
}

// New makes an OCI image for p of layers, base first. labels go into its config.
func New(p oci.Platform, labels map[string]string, layers ...Layer) Image {
	cfg := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}, Config: ocispec.ImageConfig{Labels: labels, Cmd: []string{"/bin/true"}, Env: []string{"PATH=/bin"}}}
	created := time.Unix(1700000000, 0).UTC()
	cfg.Created = &created
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	img := Image{Blobs: map[oci.Digest][]byte{}}
	for i, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
		cfg.History = append(cfg.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("layer %d", i)})
		m.Layers = append(m.Layers, l.Desc)
		img.Blobs[l.Desc.Digest] = l.Bytes
	}
	c := Blob(ocispec.MediaTypeImageConfig, marshal(cfg))
	m.Config = c.Desc
	img.Blobs[c.Desc.Digest] = c.Bytes
	img.Raw = marshal(m)
	img.Desc = Blob(m.MediaType, img.Raw).Desc
	return img
}

// Linux is linux/amd64.
var Linux = oci.Platform{OS: "linux", Architecture: "amd64"}

// Index makes an OCI index of children; each gets the platform of its config.
func Index(children ...Image) Image {
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	idx.SchemaVersion = 2
	for _, c := range children {
		d := c.Desc
		var m ocispec.Manifest
		must(json.Unmarshal(c.Raw, &m))
		var cfg ocispec.Image
		must(json.Unmarshal(c.Blobs[m.Config.Digest], &cfg))
		d.Platform = &cfg.Platform
		idx.Manifests = append(idx.Manifests, d)
	}
	img := Image{Raw: marshal(idx), Children: children, Blobs: map[oci.Digest][]byte{}}
	img.Desc = Blob(idx.MediaType, img.Raw).Desc
	return img
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Docker gives img as docker's tools push it: the same bytes of config and layers
// under docker's media types.
func (img Image) Docker() Image {
	raw := string(img.Raw)
	for oci, docker := range map[string]string{
		ocispec.MediaTypeImageManifest:  "application/vnd.docker.distribution.manifest.v2+json",
		ocispec.MediaTypeImageConfig:    "application/vnd.docker.container.image.v1+json",
		ocispec.MediaTypeImageLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
		ocispec.MediaTypeImageIndex:     "application/vnd.docker.distribution.manifest.list.v2+json",
	} {
		raw = strings.ReplaceAll(raw, `"`+oci+`"`, `"`+docker+`"`)
		if img.Desc.MediaType == oci {
			img.Desc.MediaType = docker
		}
	}
	children := img.Children
	img.Children = nil
	for _, c := range children {
		d := c.Docker()
		raw = strings.ReplaceAll(raw, string(c.Desc.Digest), string(d.Desc.Digest))
		raw = strings.ReplaceAll(raw, fmt.Sprintf(`"size":%d`, c.Desc.Size), fmt.Sprintf(`"size":%d`, d.Desc.Size))
		img.Children = append(img.Children, d)
	}
	img.Raw = []byte(raw)
	img.Desc = Blob(img.Desc.MediaType, img.Raw).Desc
	return img
}
