//go:build interop

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// sameImage is that the place at uri, which holds one image, has img's layers,
// and is valid.
func sameImage(t *testing.T, uri string, img imagetest.Image) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "layout")
	processed(t, uri, "ocidir://"+out)
	must(t, "check", "ocidir://"+out)
	blob := func(d digest.Digest) string { return readFile(t, out, "blobs", "sha256", d.Encoded()) }
	var m ocispec.Manifest
	var cfg ocispec.Image
	if err := json.Unmarshal([]byte(blob(onlyDigest(t, out))), &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(blob(m.Config.Digest)), &cfg); err != nil {
		t.Fatal(err)
	}
	if want := diffIDsOf(t, img); !slices.Equal(cfg.RootFS.DiffIDs, want) {
		t.Errorf("%s: diff_ids %q, want %q", uri, cfg.RootFS.DiffIDs, want)
	}
}

// roles names the files of an archive for what they are.
func (s *saved) roles() (roles []string) {
	for _, name := range s.names {
		switch i := slices.Index(s.entry.Layers, name); {
		case i >= 0:
			roles = append(roles, fmt.Sprint("layer ", i))
		case name == s.entry.Config:
			roles = append(roles, "config")
		default:
			roles = append(roles, name)
		}
	}
	return roles
}

func interopArchives(t *testing.T, p *purposes, all map[string]sample) {
	for _, name := range []string{"rich", "docker", "index"} {
		s := all[name]
		dir := t.TempDir()
		theirs, ours := filepath.Join(dir, "theirs.tar"), filepath.Join(dir, "ours.tar")
		occystrap(t, "process", s.uri, "tar://"+theirs)
		processed(t, "--repo-tags", "basename", s.uri, "tar://"+ours)
		a, b := readSaved(t, theirs), readSaved(t, ours)
		img := s.img
		if name == "index" {
			img = s.img.Children[1] // linux/amd64
		}
		a.is(t, "occystrap's archive", img)
		b.is(t, "our archive", img)
		if !slices.Equal(a.entry.RepoTags, b.entry.RepoTags) || a.entry.Config != b.entry.Config {
			t.Errorf("%s: occystrap calls it %+v, we %+v", name, a.entry, b.entry)
		}
		if got, want := slices.Sorted(slices.Values(b.roles())), slices.Sorted(slices.Values(a.roles())); !slices.Equal(got, want) {
			t.Errorf("%s: occystrap has %q, we %q", name, want, got)
		}
		for i, h := range append(a.heads, b.heads...) {
			if h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname+h.Gname != "" || h.ModTime.Unix() != 0 || h.Typeflag != tar.TypeReg || h.Format != tar.FormatUSTAR {
				t.Errorf("%s: header %d is %+v", name, i, h)
			}
		}
		size := func(path string) int64 {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			return st.Size()
		}
		if got, want := size(ours), size(theirs); got != want {
			t.Errorf("%s: occystrap's archive has %d bytes, ours %d", name, want, got)
		}
		p.differs(t, "folders of layers", !slices.Equal(a.entry.Layers, b.entry.Layers))
		p.differs(t, "`manifest.json` of archives", !slices.Equal(a.keys, b.keys))
		if want := []string{"Layers", "RepoTags", "Config"}; !slices.Equal(a.keys, want) {
			t.Errorf("occystrap's manifest.json has %q", a.keys)
		}
		if want := []string{"Config", "RepoTags", "Layers", "Source"}; !slices.Equal(b.keys, want) {
			t.Errorf("our manifest.json has %q", b.keys)
		}
		// Each reads the other's.
		sameImage(t, "tar://"+theirs, img)
		if name == "rich" {
			occystrap(t, "check", "tar://"+ours)
			again := filepath.Join(dir, "again.tar")
			occystrap(t, "process", "tar://"+ours, "tar://"+again)
			c := readSaved(t, again)
			c.is(t, "occystrap's archive of ours", img)
		}
	}
}

func interopDirectories(t *testing.T, p *purposes, all map[string]sample) {
	s := all["rich"]
	repository, tag, _ := strings.Cut(s.name, ":")
	for _, option := range []string{"", "?unique_names=true"} {
		dir := t.TempDir()
		theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
		occystrap(t, "process", s.uri, "dir://"+theirs+option)
		processed(t, s.uri, "dir://"+ours+option)
		a, b := readFolder(t, theirs), readFolder(t, ours)
		b.is(t, "our folder", s.img)
		for i, id := range diffIDsOf(t, s.img) {
			if digest.FromBytes(a.layers[i]) != id {
				t.Errorf("occystrap's folder: layer %d has other bytes", i)
			}
		}
		p.differs(t, "configs in `dir://`", !bytes.Equal(a.config, b.config))
		if x, y := decoded(t, a.config), decoded(t, b.config); !equalJSON(t, x, y) {
			t.Errorf("occystrap's config says\n%s\nours\n%s", a.config, b.config)
		}
		a.entry.Layers, b.entry.Layers = nil, nil
		if fmt.Sprintf("%+v", a.entry) != fmt.Sprintf("%+v", b.entry) {
			t.Errorf("occystrap's manifest says %+v, ours %+v", a.entry, b.entry)
		}
		p.differs(t, "`manifest.json` of `dir://`", !slices.Equal(a.keys, b.keys))
		if !slices.Equal(append(a.keys, "Source"), b.keys) {
			t.Errorf("occystrap's manifest has %q, ours %q", a.keys, b.keys)
		}
		if x, y := readFile(t, theirs, "catalog.json"), readFile(t, ours, "catalog.json"); x != y {
			t.Errorf("occystrap's catalog is\n%s\nours\n%s", x, y)
		}

		// We read theirs, and occystrap ours.
		sameImage(t, "dir://"+theirs, s.img)
		for what, folder := range map[string]string{"theirs": theirs, "ours": ours} {
			archive := filepath.Join(dir, what+".tar")
			occystrap(t, "recreate-image", folder, repository, tag, archive)
			sameImage(t, "tar://"+archive, s.img)
			got := readSaved(t, archive)
			p.differs(t, "layers of `recreate-image`", strings.HasSuffix(got.entry.Layers[0], "/layer.tar/layer.tar"))
			if what == "ours" {
				got.is(t, "occystrap's archive of our folder", s.img)
			}
			again := filepath.Join(dir, what+"-again.tar")
			must(t, "recreate-image", folder, repository, tag, again)
			our := readSaved(t, again)
			if !slices.Equal(our.entry.RepoTags, got.entry.RepoTags) || !slices.EqualFunc(our.layers, got.layers, bytes.Equal) || !bytes.Equal(our.config, got.config) {
				t.Errorf("recreate-image makes %+v of it, ours %+v", got.entry, our.entry)
			}
		}
	}
	interopGrown(t, all)
}

// interopGrown is a folder to which both add an image.
func interopGrown(t *testing.T, all map[string]sample) {
	for _, first := range []string{"theirs", "ours"} {
		folder := filepath.Join(t.TempDir(), "both")
		theirs := func() { occystrap(t, "process", all["rich"].uri, "dir://"+folder+"?unique_names=true") }
		ours := func() { processed(t, all["docker"].uri, "dir://"+folder+"?unique_names=true") }
		if first == "theirs" {
			theirs()
			ours()
		} else {
			ours()
			theirs()
		}
		for _, s := range []sample{all["rich"], all["docker"]} {
			repository, tag, _ := strings.Cut(s.name, ":")
			archive := filepath.Join(t.TempDir(), "a.tar")
			occystrap(t, "recreate-image", folder, repository, tag, archive)
			sameImage(t, "tar://"+archive, s.img)
		}
		layout := filepath.Join(t.TempDir(), "layout")
		processed(t, "dir://"+folder, "ocidir://"+layout)
		if f := walkLayout(t, layout); len(f.names) != 2 || len(f.wrong) > 0 {
			t.Errorf("of a folder of both, %s first, come %v, %q", first, f.names, f.wrong)
		}
	}
}

// readFolder reads the only image of a folder.
func readFolder(t *testing.T, folder string) saved {
	t.Helper()
	var s saved
	files := map[string][]byte{}
	if err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err == nil {
			files[name], err = os.ReadFile(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.names = slices.Sorted(maps.Keys(files))
	i := slices.IndexFunc(s.names, func(name string) bool { return strings.HasPrefix(name, "manifest") })
	if i < 0 {
		t.Fatalf("%s has no manifest: %q", folder, s.names)
	}
	s.fill(t, folder, files, files[s.names[i]])
	return s
}

func readFile(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decoded(t *testing.T, raw []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// interopFilters compares what the filters of both make of every entry.
func interopFilters(t *testing.T, p *purposes, all map[string]sample) {
	s := all["debian"]
	was := diffIDsOf(t, s.img)
	for _, tt := range []struct{ theirs, ours string }{
		{"normalize-timestamps:ts=12345", ""},
		{"normalize_timestamps", "normalize-timestamps"},
		{"exclude:pattern=etc/*", "exclude:pattern=etc/*,compat=occystrap"},
	} {
		if tt.ours == "" {
			tt.ours = tt.theirs
		}
		dir := t.TempDir()
		theirs, ours := filepath.Join(dir, "theirs.tar"), filepath.Join(dir, "ours.tar")
		inspect := []string{filepath.Join(dir, "theirs.jsonl"), filepath.Join(dir, "ours.jsonl")}
		occystrap(t, "process", s.uri, "tar://"+theirs, "-f", "inspect:file="+inspect[0], "-f", tt.theirs)
		processed(t, s.uri, "tar://"+ours, "-f", "inspect:file="+inspect[1], "-f", tt.ours)
		if x, y := readFile(t, inspect[0]), readFile(t, inspect[1]); x != y {
			t.Errorf("inspect: occystrap writes\n%s\nwe\n%s", x, y)
		}
		a, b := readSaved(t, theirs), readSaved(t, ours)
		x, y := decoded(t, a.config), decoded(t, b.config)
		for _, v := range []any{x, y} {
			delete(v.(map[string]any), "rootfs") // compared by what the layers hold
		}
		if !equalJSON(t, x, y) {
			t.Errorf("%s: occystrap's config is\n%s\nours\n%s", tt.ours, a.config, b.config)
		}
		p.differs(t, "configs that filters change", bytes.Contains(a.config, []byte(`": `)) && !bytes.Contains(b.config, []byte(`": `)))
		if len(a.layers) != len(b.layers) {
			t.Fatalf("%s: %d layers, and ours has %d", tt.ours, len(a.layers), len(b.layers))
		}
		for i := range a.layers {
			if bytes.Equal(a.layers[i], b.layers[i]) {
				continue
			}
			if digest.FromBytes(b.layers[i]) == was[i] {
				p.differs(t, "layers in which filters find nothing", true)
			} else {
				p.differs(t, "the end of layers that filters change", len(a.layers[i])%10240 == 0 && len(b.layers[i])%10240 != 0)
			}
			theirs, ours := entriesOf(t, a.layers[i]), entriesOf(t, b.layers[i])
			for n, e := range theirs {
				if n < len(ours) && e != ours[n] && strings.HasPrefix(e, "opt/precise ") {
					p.differs(t, "times with fractions of a second", strings.Contains(e, ".123456700 ") && strings.Contains(ours[n], ".123456789 "))
					theirs[n] = ours[n]
				}
			}
			if !slices.Equal(theirs, ours) {
				t.Errorf("%s: layer %d holds\n%s\nours\n%s", tt.ours, i, strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
			}
		}
	}
}

// entriesOf gives a line for each entry of a layer, with all that it holds.
func entriesOf(t *testing.T, layer []byte) (lines []string) {
	t.Helper()
	for tr := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime"} {
			delete(h.PAXRecords, k) // they are in the header
		}
		for k := range h.PAXRecords {
			if strings.HasPrefix(k, "GNU.sparse.") {
				delete(h.PAXRecords, k) // how the body was written
			}
		}
		lines = append(lines, fmt.Sprintf("%s %c %d %d.%09d %o %d:%d %s:%s %q %d:%d %v %s", h.Name, h.Typeflag, len(body), h.ModTime.Unix(), h.ModTime.Nanosecond(), h.Mode,
			h.Uid, h.Gid, h.Uname, h.Gname, h.Linkname, h.Devmajor, h.Devminor, h.PAXRecords, digest.FromBytes(body).Encoded()[:12]))
	}
}

// interopRegistries reads what occystrap pushes.
func interopRegistries(t *testing.T, p *purposes, from far, all map[string]sample) {
	s := all["rich"]
	for _, compression := range []string{"gzip", "zstd"} {
		to := "registry://" + from.host + "/theirs/" + compression + ":v1"
		occystrap(t, "--compression", compression, "process", s.uri, to)
		must(t, "check", "--plain-http", to)
		archive := filepath.Join(t.TempDir(), "a.tar")
		processed(t, to, "tar://"+archive)
		got := readSaved(t, archive)
		got.is(t, "what occystrap pushed", s.img)
	}
	at := from.host + "/ours/rich:v1"
	processed(t, s.uri, "registry://"+at)
	p.differs(t, "manifests in registries", seeLayers(t, from.host+"/theirs/gzip:v1").mustDigest(t) != string(s.img.Desc.Digest) && seeLayers(t, at).mustDigest(t) == string(s.img.Desc.Digest))
}

func (i imageAt) mustDigest(t *testing.T) string {
	t.Helper()
	d, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// interopDaemon lets a daemon pass what one program wrote to the other.
func interopDaemon(t *testing.T, p *purposes, all map[string]sample) {
	s := all["rich"]
	d := daemontest.Docker(t)
	at := func(name string) string { return "docker://" + name + "?socket=" + d.Socket }
	processed(t, s.uri, at("ours:v1"))
	occystrap(t, "process", s.uri, at("passed-over:v1")) // it is loaded under its source's base name
	const name = "rich:v1"
	p.differs(t, "name in the daemon", strings.TrimSpace(d.Do(t, "image", "ls", "--quiet", "passed-over:v1")) == "")
	id := digest.FromBytes(configOf(t, s.img)).String()
	for _, name := range []string{"ours:v1", name} {
		if got := strings.TrimSpace(d.Do(t, "image", "inspect", "--format={{.Id}}", name)); got != id {
			t.Errorf("%s is %s, want %s", name, got, id)
		}
	}
	dir := t.TempDir()
	theirs, ours := filepath.Join(dir, "theirs.tar"), filepath.Join(dir, "ours.tar")
	occystrap(t, "process", at("ours:v1"), "tar://"+theirs)
	processed(t, at(name), "tar://"+ours)
	for _, path := range []string{theirs, ours} {
		got := readSaved(t, path)
		got.is(t, path, s.img)
	}
	info := occystrap(t, "-O", "json", "info", at(name))
	p.differs(t, "`info` of `docker://`", strings.Contains(info, `"history_count": 0,`) && strings.Contains(must(t, "-O", "json", "info", at(name)).stdout, `"history_count": 3,`))

	// A faulty archive of recreate-image can be loaded.
	folder, archive := filepath.Join(dir, "folder"), filepath.Join(dir, "again.tar")
	processed(t, s.uri, "dir://"+folder)
	repository, tag, _ := strings.Cut(s.name, ":")
	occystrap(t, "recreate-image", folder, repository, tag, archive)
	d.Do(t, "image", "rm", "ours:v1", name)
	d.Do(t, "load", "--input", archive)
	if got := strings.TrimSpace(d.Do(t, "image", "inspect", "--format={{.Id}}", name)); got != id {
		t.Errorf("from recreate-image comes %s, want %s", got, id)
	}
}
