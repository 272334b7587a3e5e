//go:build interop

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// occystrapRun runs the occystrap that scripts/set-up-interop.sh installs. One
// thread makes it take layers in the image's order.
func occystrapRun(t *testing.T, args ...string) result {
	t.Helper()
	program, err := filepath.Abs("../../.bin/occystrap/bin/occystrap")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--insecure", "-j", "1"}, args...)...)
	cmd.Env = toolEnv(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v; run make interop", err)
	}
	return result{stdout: withoutLog(stdout.String()), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// withoutLog takes occystrap's log away, which goes to standard output.
func withoutLog(s string) string { return logRE.ReplaceAllString(s, "") }

var logRE = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ .*\n`)

// occystrap is occystrapRun for what has to succeed; it gives what is printed.
func occystrap(t *testing.T, args ...string) string {
	t.Helper()
	r := occystrapRun(t, args...)
	if r.status != 0 {
		t.Fatalf("occystrap %q: status %d\n%s%s", args, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// purposes are the differences that are on purpose: the first column of the table
// in docs/occystrap.md behind this heading. Each must be met in TestInterop, and
// each that is met must be there; any other difference is an error.
type purposes struct {
	mu  sync.Mutex
	met map[string]bool
}

const purposesHead = "## What the two make of the same image"

func readPurposes(t *testing.T) *purposes {
	t.Helper()
	text, err := os.ReadFile("../../docs/occystrap.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), purposesHead+"\n")
	if !ok {
		t.Fatalf("docs/occystrap.md has no %q", purposesHead)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	p := &purposes{met: map[string]bool{}}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(section, -1) {
		p.met[row[1]] = false
	}
	return p
}

// differs is that the two differ here, for the reason in the row what.
func (p *purposes) differs(t *testing.T, what string, is bool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, listed := p.met[what]; !listed {
		t.Errorf("docs/occystrap.md doesn't list %q", what)
	}
	if !is {
		t.Errorf("they don't differ: %q", what)
	}
	p.met[what] = true
}

// A sample is an image in the registry that both programs read.
type sample struct {
	name string // repository:tag
	uri  string // of the registry
	img  imagetest.Image
}

// dressed gives img, whose config gets what edit does with it, and then each of
// replaced for the one before it.
func dressed(t *testing.T, img imagetest.Image, edit func(*ocispec.Image), replaced ...string) imagetest.Image {
	t.Helper()
	var m ocispec.Manifest
	var cfg ocispec.Image
	if err := errors.Join(json.Unmarshal(img.Raw, &m), json.Unmarshal(img.Blobs[m.Config.Digest], &cfg)); err != nil {
		t.Fatal(err)
	}
	edit(&cfg)
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.NewReplacer(replaced...).Replace(string(raw)))
	delete(img.Blobs, m.Config.Digest)
	m.Config = imagetest.Blob(m.Config.MediaType, raw).Desc
	img.Blobs[m.Config.Digest] = raw
	if img.Raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	img.Desc = imagetest.Blob(m.MediaType, img.Raw).Desc
	return img
}

// samples fills a registry with images that have something of everything.
func samples(t *testing.T) (far, map[string]sample) {
	rich := dressed(t, image(31, 40_000, "amd64"), func(c *ocispec.Image) {
		c.Config.Entrypoint = []string{"/bin/sh", "-c"}
		c.Config.Env = append(c.Config.Env, "GREETING=grüß 'dich'")
		c.Config.WorkingDir = "/srv"
		c.Config.ExposedPorts = map[string]struct{}{"53/udp": {}, "8080/tcp": {}}
		c.Config.Volumes = map[string]struct{}{"/data": {}, "/cache": {}}
		c.Config.Labels = map[string]string{"a": "b", "maintainer": "nobody", "weiß": "schwarz"}
		c.History = slices.Insert(c.History, 1, ocispec.History{Created: c.Created, CreatedBy: "ENV GREETING", EmptyLayer: true})
	}, `"a":"b","maintainer":"nobody"`, `"maintainer":"nobody","a":"b"`, `"53/udp":{},"8080/tcp":{}`, `"8080/tcp":{},"53/udp":{}`) // which docker sorts
	odd := dressed(t, imagetest.New(imagetest.Linux, nil,
		imagetest.Entries(
			imagetest.Entry{Header: tar.Header{Name: "bin/tool", Mode: 0o4777}, Body: "x"},
			imagetest.File("etc/a", "1"), imagetest.File("etc/b", "1")),
		imagetest.Entries(imagetest.File("etc/a", "2"), imagetest.File("etc/.wh.b", "something"))),
		func(c *ocispec.Image) {
			c.RootFS.DiffIDs[1] = digest.FromString("another layer")
			c.History = c.History[:1]
		})
	images := map[string]imagetest.Image{
		"rich": rich, "docker": image(32, 40_000, "amd64").Docker(), "debian": debianImage(t), "odd": odd,
		"index": imagetest.Index(image(33, 5000, "arm64"), image(34, 5000, "amd64")),
	}
	from := startRegistry(t, nil)
	all := map[string]sample{}
	for name, img := range images {
		if err := img.Push(t.Context(), from.URL, "team/sub/"+name, "v1", ""); err != nil {
			t.Fatal(err)
		}
		s := sample{name: "team/sub/" + name + ":v1", img: img}
		s.uri = "registry://" + from.host + "/" + s.name
		all[name] = s
	}
	return from, all
}

// TestInterop lets occystrap and us do the same with the same images: each reads
// what the other writes, and says the same of it; and pubtools-quay and us merge the
// same lists.
func TestInterop(t *testing.T) {
	p := readPurposes(t)
	from, all := samples(t)
	whole := t.Run("all", func(t *testing.T) {
		t.Run("archives", func(t *testing.T) { t.Parallel(); interopArchives(t, p, all) })
		t.Run("directories", func(t *testing.T) { t.Parallel(); interopDirectories(t, p, all) })
		t.Run("info", func(t *testing.T) { t.Parallel(); interopInfo(t, p, all) })
		t.Run("search", func(t *testing.T) { t.Parallel(); interopSearch(t, p, all) })
		t.Run("check", func(t *testing.T) { t.Parallel(); interopCheck(t, p, all) })
		t.Run("filters", func(t *testing.T) { t.Parallel(); interopFilters(t, p, all) })
		t.Run("registries", func(t *testing.T) { t.Parallel(); interopRegistries(t, p, from, all) })
		t.Run("daemon", func(t *testing.T) { t.Parallel(); interopDaemon(t, p, all) })
		t.Run("merge", func(t *testing.T) { t.Parallel(); interopMerge(t) })
	})
	for what, met := range p.met {
		if !met && whole {
			t.Errorf("docs/occystrap.md lists %q, which nothing here meets", what)
		}
	}
}

// saved is an archive of docker save, or a folder, as a reader sees it.
type saved struct {
	names  []string // of the files, in their order
	heads  []tar.Header
	config []byte
	layers [][]byte
	entry  savedEntry
	keys   []string // of entry, in their order
}

type savedEntry struct {
	Config           string
	RepoTags, Layers []string
	ImageName        string
}

func readSaved(t *testing.T, path string) saved {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s saved
	files := map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		s.names, s.heads, files[h.Name] = append(s.names, h.Name), append(s.heads, *h), body
	}
	s.fill(t, path, files, files["manifest.json"])
	return s
}

func (s *saved) fill(t *testing.T, path string, files map[string][]byte, manifest []byte) {
	t.Helper()
	var entries []savedEntry
	if err := json.Unmarshal(manifest, &entries); err != nil || len(entries) != 1 {
		t.Fatalf("%s: manifest.json is %s (%v)", path, manifest, err)
	}
	s.entry, s.config = entries[0], files[entries[0].Config]
	for _, name := range s.entry.Layers {
		if files[name] == nil {
			t.Fatalf("%s has no %s", path, name)
		}
		s.layers = append(s.layers, files[name])
	}
	s.keys = keysOf(t, manifest[bytes.IndexByte(manifest, '{'):])
}

// keysOf gives the keys of an object in their order.
func keysOf(t *testing.T, raw []byte) (keys []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		k, err := d.Token()
		var v json.RawMessage
		if err == nil {
			err = d.Decode(&v)
		}
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.(string))
	}
	return keys
}

// is holds what was saved against the image of linux/amd64 that it comes from.
func (s *saved) is(t *testing.T, what string, img imagetest.Image) {
	t.Helper()
	for i, id := range diffIDsOf(t, img) {
		if digest.FromBytes(s.layers[i]) != id {
			t.Errorf("%s: layer %d has other bytes", what, i)
		}
	}
	if !bytes.Equal(s.config, configOf(t, img)) {
		t.Errorf("%s: the config has other bytes", what)
	}
}

func configOf(t *testing.T, img imagetest.Image) []byte {
	t.Helper()
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return img.Blobs[m.Config.Digest]
}
