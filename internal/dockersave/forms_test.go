package dockersave

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// image is a small one for archives: its config, and its layers as plain tar.
type image struct {
	config imagetest.Layer
	layers [][]byte
	ids    []oci.Digest
}

func makeImage(seed string, layers ...[]byte) image {
	var all []imagetest.Layer
	img := image{layers: layers}
	for _, raw := range layers {
		l := imagetest.Blob(ocispec.MediaTypeImageLayer, raw)
		all = append(all, l)
		img.ids = append(img.ids, l.DiffID)
	}
	made := imagetest.New(imagetest.Linux, map[string]string{"seed": seed}, all...)
	m, err := oci.ParseManifest("", made.Raw)
	if err != nil {
		panic(err)
	}
	img.config = imagetest.Blob(m.Config.MediaType, made.Blobs[m.Config.Digest])
	return img
}

func plain(name, body string) []byte { return imagetest.Tar(imagetest.File(name, body)) }

var (
	base = plain("etc/os-release", "base")
	app  = plain("srv/app", "app")
	// twice has a layer two times.
	twice = makeImage("twice", base, app, base)
	other = makeImage("other", base, plain("srv/other", "other"))
)

func manifest(list ...Entry) imagetest.Entry {
	raw, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return imagetest.File(ManifestFile, string(raw))
}

// classic is the form of docker 1.10 to 24: folders with v1 ids, a link for a
// layer that is there already.
func classic(tags ...string) []byte {
	return imagetest.Tar(
		imagetest.Dir("aa/"), imagetest.File("aa/VERSION", "1.0"), imagetest.File("aa/json", "{}"), imagetest.File("aa/layer.tar", string(base)),
		imagetest.File(twice.config.Desc.Digest.Encoded()+".json", string(twice.config.Bytes)),
		imagetest.Dir("bb/"), imagetest.File("bb/layer.tar", string(app)),
		imagetest.Dir("cc/"), imagetest.Symlink("cc/layer.tar", "../aa/layer.tar"),
		manifest(Entry{Config: twice.config.Desc.Digest.Encoded() + ".json", RepoTags: tags, Layers: []string{"aa/layer.tar", "bb/layer.tar", "cc/layer.tar"}}),
		imagetest.File("repositories", "{}"),
	)
}

func blobName(d oci.Digest) string { return "blobs/sha256/" + d.Encoded() }

// modern is the form of docker since version 25, without its layout; pack is what
// is done to layers.
func modern(pack func([]byte) []byte, tags ...string) []byte {
	return imagetest.Tar(
		imagetest.Dir("blobs/"), imagetest.Dir("blobs/sha256/"),
		imagetest.File(blobName(twice.ids[0]), string(pack(base))),
		imagetest.File(blobName(twice.ids[1]), string(pack(app))),
		imagetest.File(blobName(twice.config.Desc.Digest), string(twice.config.Bytes)),
		manifest(Entry{Config: blobName(twice.config.Desc.Digest), RepoTags: tags,
			Layers: []string{blobName(twice.ids[0]), blobName(twice.ids[1]), blobName(twice.ids[0])}}),
	)
}

// podman is its form: files named by diffIDs, links with v1 ids.
func podman(tags ...string) []byte {
	file := func(n int) string { return twice.ids[n].Encoded() + ".tar" }
	return imagetest.Tar(
		imagetest.File(file(0), string(base)), imagetest.File(file(1), string(app)),
		imagetest.Symlink("0123/layer.tar", "../"+file(0)), imagetest.File("0123/VERSION", "1.0"),
		imagetest.File(twice.config.Desc.Digest.Encoded()+".json", string(twice.config.Bytes)),
		manifest(Entry{Config: twice.config.Desc.Digest.Encoded() + ".json", RepoTags: tags, Layers: []string{file(0), file(1), file(0)}}),
	)
}

// byHardLinks has the same layers by hard links.
func byHardLinks(tags ...string) []byte {
	return imagetest.Tar(
		imagetest.File("./config.json", string(twice.config.Bytes)),
		imagetest.File("./aa/layer.tar", string(base)), imagetest.File("./bb/layer.tar", string(app)), imagetest.Hardlink("./cc/layer.tar", "./aa/layer.tar"),
		manifest(Entry{Config: "config.json", RepoTags: tags, Layers: []string{"aa/layer.tar", "bb/layer.tar", "cc/layer.tar"}}),
	)
}

func asIs(b []byte) []byte { return b }

func gzipped(raw []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(raw)
	w.Close()
	return b.Bytes()
}

func zstded(raw []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return w.EncodeAll(raw, nil)
}

// openFile opens raw as an archive file.
func openFile(t *testing.T, raw []byte) *tarfile.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := tarfile.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readBytes(t *testing.T, raw []byte) *Archive {
	t.Helper()
	a, err := Read(openFile(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// names are of a's images.
func names(a *Archive) string {
	var all []string
	for _, i := range a.Images {
		for _, n := range i.Names {
			all = append(all, n.String())
		}
	}
	return strings.Join(all, " ")
}
