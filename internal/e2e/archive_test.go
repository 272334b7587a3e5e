package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	dockertar "github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestArchivesRun is what an archive is for: Docker loads it, runs the image, and
// saves the same one; podman, skopeo and go-containerregistry read it.
func TestArchivesRun(t *testing.T) {
	t.Parallel()
	img := debianImage(t)
	layout := layoutOf(t, img)
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours.tar")
	const ref = "example.com/under/test:v1"
	processed(t, "ocidir://"+layout+":v1", "tar://"+ours+":"+ref, "--verify-full")

	d := daemontest.Docker(t)
	printed := prints(t, d, layout)
	if got := d.Do(t, "load", "--input", ours); !strings.Contains(got, "Loaded image: "+ref) {
		t.Errorf("docker load says %q", got)
	}
	if got := d.Do(t, "run", "--rm", "--network=none", ref); got != printed {
		t.Errorf("loaded from our archive it prints\n%s\nwant\n%s", got, printed)
	}
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(d.Do(t, "image", "inspect", "--format={{.Id}}", ref)); got != string(m.Config.Digest) {
		t.Errorf("its ID is %s, want %s", got, m.Config.Digest)
	}

	p := daemontest.Podman(t)
	if got := p.Do(t, "load", "--input", ours); !strings.Contains(got, ref) {
		t.Errorf("podman load says %q", got)
	}
	if got := strings.TrimSpace(p.Do(t, "image", "inspect", "--format={{.Id}}", ref)); got != m.Config.Digest.Encoded() {
		t.Errorf("podman's ID is %s, want %s", got, m.Config.Digest)
	}

	out := filepath.Join(dir, "skopeo")
	skopeo(t, "copy", "--quiet", "docker-archive:"+ours, "dir:"+out)
	for _, id := range append(diffIDsOf(t, img), m.Config.Digest) {
		raw, err := os.ReadFile(filepath.Join(out, id.Encoded()))
		if err != nil || digest.FromBytes(raw) != id {
			t.Errorf("skopeo took other bytes for %s: %v", id, err)
		}
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	read, err := dockertar.ImageFromPath(ours, &tag)
	if err == nil {
		err = validate.Image(read)
	}
	if err != nil {
		t.Errorf("go-containerregistry: %v", err)
	}
	sameFromDocker(t, d)
}

// sameFromDocker lets Docker save what it has loaded, which comes to the same
// image. It can't save that of Debian's files, because of the sparse one: see debianWith.
func sameFromDocker(t *testing.T, d daemontest.Daemon) {
	t.Helper()
	dir := t.TempDir()
	ours, saved := filepath.Join(dir, "ours.tar"), filepath.Join(dir, "saved.tar")
	const ref = "example.com/small:v1"
	processed(t, "ocidir://"+layoutOf(t, image(7, 20_000, "amd64"))+":v1", "tar://"+ours+":"+ref)
	d.Do(t, "load", "--input", ours)
	d.Do(t, "save", "--output", saved, ref)
	var digests []oci.Digest
	for _, archive := range []string{ours, saved} {
		out := filepath.Join(t.TempDir(), "layout")
		processed(t, "tar://"+archive+":"+ref, "ocidir://"+out+":v1")
		valid(t, out)
		digests = append(digests, onlyDigest(t, out))
	}
	if digests[0] != digests[1] {
		t.Errorf("from our archive comes %s, from docker's %s", digests[0], digests[1])
	}
}

// diffIDsOf gives those of img's config.
func diffIDsOf(t *testing.T, img imagetest.Image) []oci.Digest {
	t.Helper()
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var cfg ocispec.Image
	if err := json.Unmarshal(img.Blobs[m.Config.Digest], &cfg); err != nil {
		t.Fatal(err)
	}
	return cfg.RootFS.DiffIDs
}

// TestArchivesOfSkopeo reads what skopeo writes.
func TestArchivesOfSkopeo(t *testing.T) {
	layout := layoutOf(t, image(1, 50_000, "amd64"))
	archive := filepath.Join(t.TempDir(), "a.tar")
	skopeo(t, "copy", "--quiet", "oci:"+layout, "docker-archive:"+archive+":example.com/a:1")
	out := filepath.Join(t.TempDir(), "layout")
	processed(t, "tar://"+archive+":example.com/a:1", "ocidir://"+out+":v1")
	valid(t, out)
}

// TestArchiveOfAnOrganisation writes many images into one file, and one file for
// each, with different haste.
func TestArchiveOfAnOrganisation(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	q.fill(t, 20, 2000)
	dir := t.TempDir()
	var want []byte
	for _, args := range [][]string{{"-j", "1", "-J", "1"}, {"-j", "8", "-J", "8"}} {
		path := filepath.Join(dir, "all.tar")
		processed(t, append(args, q.source(), "tar://"+path)...)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%q: other bytes", args)
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if r := processed(t, append(args, q.source(), "tar://"+path)...); !strings.Contains(r.stderr, "20 up to date") {
			t.Errorf("the second run says %q", r.stderr)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("the second run made the file anew (%v)", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	processed(t, q.source(), "tar://"+dir+"/{repo}-{tag}.tar")
	if files := readDir(t, dir); len(files) != 20 || !slices.Contains(files, "app-07-v1.tar") {
		t.Errorf("one file each: %d files, %q…", len(files), files[:min(len(files), 3)])
	}
}

func TestArchiveOnAFullDisk(t *testing.T) {
	layout := layoutOf(t, image(1, 3<<20, "amd64"))
	for _, left := range []int{0, 1024, 5 << 10} { // a file at all, its layer, the archive beside its layers
		path := filepath.Join(smallDisk(t, 8<<10, left), "a.tar")
		r := process(t, "ocidir://"+layout, "tar://"+path, "--quiet")
		if r.status != 1 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%d KiB left: status %d, %q", left, r.status, r.stderr)
		}
		fullLine(t, r.stderr, path)
		if files := readDir(t, filepath.Dir(path)); !slices.Equal(files, []string{"ballast"}) {
			t.Errorf("%d KiB left: the folder has %q", left, files)
		}
	}
}

// zeroLayer is a tar of one file with size zeros, which are no bytes on the disk.
func zeroLayer(i int, size int64) (head []byte, tail int64) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: fmt.Sprintf("data/%d", i), Mode: 0o644, Size: size}); err != nil {
		panic(err)
	}
	return b.Bytes(), size + 1024
}

// bigArchive writes an archive of layers, size bytes each, and gives its config.
func bigArchive(t *testing.T, path string, layers int, size int64) ocispec.Image {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	member := func(name string, body []byte, zeros int64) {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)) + zeros}); err != nil {
			t.Fatal(err)
		}
		b.Write(body)
		if _, err := f.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		end, err := f.Seek(zeros, io.SeekCurrent)
		if err == nil {
			_, err = f.Seek((512-end%512)%512, io.SeekCurrent)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := ocispec.Image{Platform: imagetest.Linux, RootFS: ocispec.RootFS{Type: "layers"}}
	var names []string
	for i := range layers {
		head, tail := zeroLayer(i, size)
		h := sha256.New()
		h.Write(head)
		zeros(h, tail)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.NewDigest(digest.SHA256, h))
		names = append(names, fmt.Sprintf("layer%d/layer.tar", i))
		member(names[i], head, tail)
	}
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	member("config.json", config, 0)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"big:1"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	member("manifest.json", manifest, 0)
	if _, err := f.Write(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// zeros gives h n of them.
func zeros(h hash.Hash, n int64) {
	buf := make([]byte, 1<<20)
	for n > 0 {
		k := min(n, int64(len(buf)))
		h.Write(buf[:k])
		n -= k
	}
}

func TestMemoryOfABigArchive(t *testing.T) {
	const layers, size = 30, 35 << 20
	dir := t.TempDir()
	path := filepath.Join(dir, "big.tar")
	cfg := bigArchive(t, path, layers, size)
	to := spawnRegistry(t, t.TempDir())
	small(t, must(t, "process", "--plain-http", "tar://"+path+":big:1", "registry://"+to+"/big:v1"), mostCopying)
	seen(t, to, "big:v1", seeImage)
	back := filepath.Join(dir, "back.tar")
	small(t, must(t, "process", "--plain-http", "registry://"+to+"/big:v1", "tar://"+back), mostCopying)
	img, err := dockertar.ImageFromPath(back, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := img.ConfigFile()
	if err != nil || len(got.RootFS.DiffIDs) != layers || got.RootFS.DiffIDs[layers-1].String() != string(cfg.RootFS.DiffIDs[layers-1]) {
		t.Errorf("it came back with other layers (%v)", err)
	}
}
