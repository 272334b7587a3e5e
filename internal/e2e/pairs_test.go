package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	dockertar "github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// pairName is what the image is called wherever it is.
const pairName = "example.com/under/test:v1"

// A pairing is one image in every place that it can be copied from.
type pairing struct {
	img     imagetest.Image
	config  oci.Digest
	diffIDs []oci.Digest
	sources []pairSource
	far     far
	from    daemontest.Daemon // has the image
	to      daemontest.Daemon // is copied to
	loading sync.Mutex        // of to, which has to forget the image between two copies
	disk    tree              // the image's files as umoci unpacks them

	mu     sync.Mutex
	became map[string]oci.Digest // what copies have in common
}

// A pairSource is a place that has the image. Of those with the same origin, copies that are
// stored alike have the same manifest.
type pairSource struct{ name, uri, origin string }

// A pairDest is a kind of place. see compares what is there with the image.
type pairDest struct {
	name string
	uri  func(dir string) string
	see  func(t *testing.T, p *pairing, from pairSource, dir string)
}

// TestPairs takes one image, of all that images can hold, from every place to every
// place. Others read what comes out: it is the same image, and where its layers are
// stored as they came, by the same manifest.
func TestPairs(t *testing.T) {
	t.Parallel()
	p := newPairing(t)
	dests := p.dests(t)
	t.Run("pairs", func(t *testing.T) {
		for _, from := range p.sources {
			for _, to := range dests {
				t.Run(from.name+" to "+to.name, func(t *testing.T) {
					t.Parallel()
					if to.name == "docker" {
						p.loading.Lock()
						defer p.loading.Unlock()
					}
					dir := t.TempDir()
					paired(t, dir, from.uri, to.uri(dir))
					to.see(t, p, from, dir)
				})
			}
		}
	})
	if got := p.from.Do(t, "images", "--all", "--format={{.Repository}}:{{.Tag}}"); strings.TrimSpace(got) != pairName {
		t.Errorf("the daemon that was copied from now has %q", got)
	}
}

// paired runs process, which says nothing and leaves nothing in the folder for
// temporary files.
func paired(t *testing.T, dir, from, to string) {
	t.Helper()
	temp := filepath.Join(dir, "temp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool(t), "process", "--quiet", "--plain-http", from, to)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + temp}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := readDir(t, temp); len(left) > 0 {
		t.Errorf("it leaves %q behind", left)
	}
}

func newPairing(t *testing.T) *pairing {
	t.Helper()
	p := &pairing{img: debianWith(t), became: map[string]oci.Digest{}}
	m, err := oci.ParseManifest(p.img.Desc.MediaType, p.img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	p.config, p.diffIDs = m.Config.Digest, diffIDsOf(t, p.img)
	p.far = startRegistry(t, nil)
	if err := p.img.Push(t.Context(), p.far.URL, "from/app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	at := func(scheme string) string { return scheme + "://" + filepath.Join(dir, scheme) + ":" + pairName }
	registry := "registry://" + p.far.host + "/from/app:v1"
	for _, scheme := range []string{"ocidir", "oci-archive", "tar", "dir"} {
		must(t, "process", "--quiet", "--plain-http", registry, at(scheme))
	}
	p.became["manifest"], p.became[string(p.config)] = p.img.Desc.Digest, p.config
	for _, id := range p.diffIDs {
		p.became[string(id)] = id
	}
	p.disk = umociTree(t, layoutOf(t, p.img))
	p.holdsAll(t)
	p.to = daemontest.Docker(t)
	p.from = daemontest.Docker(t)
	p.from.Do(t, "load", "--input", filepath.Join(dir, "tar"))
	socket := "?socket=" + p.from.Socket
	p.sources = []pairSource{
		{"registry", registry, "manifest"}, {"ocidir", at("ocidir"), "manifest"}, {"oci-archive", at("oci-archive"), "manifest"},
		{"tar", at("tar"), "plain"}, {"dir", at("dir"), "plain"}, {"docker", "docker://" + pairName + socket, "plain"},
		{"dockerpush", "dockerpush://" + pairName + socket, "pushed"},
	}
	return p
}

// holdsAll is that the image has what images can hold.
func (p *pairing) holdsAll(t *testing.T) {
	t.Helper()
	at := p.disk
	for what, ok := range map[string]bool{
		"layers":       len(p.diffIDs) >= 5,
		"a deletion":   at["etc/motd"].size > 0 && at["etc/gone"] == node{},
		"opaque":       at["var/lib/app/new"].size > 0 && at["var/lib/app/old"] == node{},
		"hard links":   at["opt/links/c"].first == "opt/links/a" && at["bin/tac"].first == "bin/busybox",
		"xattrs":       strings.Contains(at["caps/grep"].xattrs, "security.capability") && strings.Contains(at["opt/precise"].xattrs, "user.comment"),
		"setuid":       at["opt/setuid"].kind&fs.ModeSetuid != 0 && at["opt/setuid"].uid == 12,
		"a long path":  at[longPath].size > 0 && len(longPath) >= 150,
		"no ASCII":     at["opt/données/naïve-日本語.txt"].size > 0,
		"other owners": at["opt/setgid"].gid == 3_000_000 && at["opt/setgid"].kind&fs.ModeSetgid != 0,
	} {
		if !ok {
			t.Errorf("%s: the image has none", what)
		}
	}
}

// dests are the places to copy to.
func (p *pairing) dests(t *testing.T) []pairDest {
	path := func(scheme, rest string) func(string) string {
		return func(dir string) string { return scheme + "://" + filepath.Join(dir, "out") + rest }
	}
	const loaded = "example.com/copied/here:v2"
	return []pairDest{
		{"registry", func(dir string) string { return "registry://" + p.far.host + "/" + repositoryOf(dir) + ":v1" },
			func(t *testing.T, p *pairing, from pairSource, dir string) {
				p.sees(t, from, seeLayers(t, p.far.host+"/"+repositoryOf(dir)+":v1").Image)
			}},
		{"ocidir", path("ocidir", ":v1"), func(t *testing.T, p *pairing, from pairSource, dir string) {
			p.sees(t, from, onlyImage(t, filepath.Join(dir, "out")))
		}},
		{"oci-archive", path("oci-archive", ":v1"), func(t *testing.T, p *pairing, from pairSource, dir string) {
			in := filepath.Join(dir, "in")
			if err := os.Mkdir(in, 0o700); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "tar", "-xf", filepath.Join(dir, "out"), "-C", in).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			p.sees(t, from, onlyImage(t, in))
			p.agreeFile(t, "archive of a layout, "+from.origin, filepath.Join(dir, "out"))
		}},
		{"tar", path("tar", ":"+pairName), func(t *testing.T, p *pairing, from pairSource, dir string) {
			tag, err := name.NewTag(pairName)
			if err != nil {
				t.Fatal(err)
			}
			img, err := dockertar.ImageFromPath(filepath.Join(dir, "out"), &tag)
			if err != nil {
				t.Fatal(err)
			}
			p.seesParts(t, img)
			p.agreeFile(t, "archive of docker save, "+from.origin, filepath.Join(dir, "out")) // it says what it was made of
		}},
		{"dir", path("dir", ":"+pairName), func(t *testing.T, p *pairing, from pairSource, dir string) {
			p.agreeFile(t, string(p.config), filepath.Join(dir, "out", p.config.Encoded()+".json"))
			for _, id := range p.diffIDs {
				p.agreeFile(t, string(id), filepath.Join(dir, "out", id.Encoded(), "layer.tar"))
			}
		}},
		{"oci", path("oci", ""), func(t *testing.T, p *pairing, from pairSource, dir string) {
			sees(t, diskTree(t, filepath.Join(dir, "out", "rootfs")).lines(all), p.disk.lines(all))
		}},
		{"mounts", path("mounts", ""), func(t *testing.T, p *pairing, from pairSource, dir string) {
			root := filepath.Join(dir, "out", "rootfs")
			defer unmount(t, root)
			sees(t, diskTree(t, root).lines(apart), p.disk.lines(apart))
		}},
		{"docker", func(string) string { return "docker://" + loaded + "?socket=" + p.to.Socket },
			func(t *testing.T, p *pairing, from pairSource, dir string) {
				defer p.to.Do(t, "image", "rm", loaded)
				if id := strings.TrimSpace(p.to.Do(t, "image", "inspect", "--format={{.Id}}", loaded)); id != string(p.config) {
					t.Errorf("its ID is %s, want %s", id, p.config)
				}
				var ids []oci.Digest
				if err := json.Unmarshal([]byte(p.to.Do(t, "image", "inspect", "--format={{json .RootFS.Layers}}", loaded)), &ids); err != nil || !slices.Equal(ids, p.diffIDs) {
					t.Errorf("it has layers %q (%v), want %q", ids, err, p.diffIDs)
				}
				sees(t, exportedTree(t, p.to, loaded).lines(exported), p.disk.lines(exported))
			}},
	}
}

// repositoryOf names a repository that only the test of dir writes to.
func repositoryOf(dir string) string { return "to/" + digest.FromString(dir).Encoded()[:12] }

// onlyImage gives the one image of a layout that all is well with.
func onlyImage(t *testing.T, folder string) v1.Image {
	t.Helper()
	d := onlyDigest(t, folder)
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(string(d))
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(hash)
	if err == nil {
		err = wholeImage(img)
	}
	if err != nil {
		t.Fatalf("go-containerregistry: %v", err)
	}
	return img
}

// sees is that img, which keeps a manifest, is the pairing's, by the manifest that
// it has to have.
func (p *pairing) sees(t *testing.T, from pairSource, img v1.Image) {
	t.Helper()
	p.seesParts(t, img)
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p.agree(t, from.origin, oci.Digest(hash.String()))
}

// agree is that whatever is called what has the digest d.
func (p *pairing) agree(t *testing.T, what string, d oci.Digest) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := p.became[what]; want == "" {
		p.became[what] = d
	} else if d != want {
		t.Errorf("%s: its digest is %s, others have %s", what, d, want)
	}
}

// agreeFile is agree for the bytes of a file.
func (p *pairing) agreeFile(t *testing.T, what, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		t.Fatal(err)
	}
	p.agree(t, what, d)
}

// seesParts is that img has the config and layers of the pairing's, byte for byte.
func (p *pairing) seesParts(t *testing.T, img v1.Image) {
	t.Helper()
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(raw); got != p.config {
		t.Errorf("its config is %s, want %s", got, p.config)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var ids []oci.Digest
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		id, err := digest.FromReader(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if !slices.Equal(ids, p.diffIDs) {
		t.Errorf("it has layers %q, want %q", ids, p.diffIDs)
	}
}
