package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestDocker is docker:// with a real Docker daemon.
func TestDocker(t *testing.T) {
	t.Parallel()
	throughDaemon(t, daemontest.Docker(t), "docker-daemon")
}

// TestPodman is docker:// with podman's service.
func TestPodman(t *testing.T) {
	t.Parallel()
	throughDaemon(t, daemontest.Podman(t), "")
}

func throughDaemon(t *testing.T, d daemontest.Daemon, transport string) {
	at := func(name string) string { return "docker://" + name + "?socket=" + d.Socket }
	const ref = "localhost:5000/under/test:v1"
	t.Run("what is loaded runs", func(t *testing.T) {
		layout := layoutOf(t, debianImage(t))
		printed := prints(t, d, layout)
		processed(t, "ocidir://"+layout+":v1", at(ref), "--verify=true")
		own := replace(`.* /run/\.containerenv$`, "") // podman's, of each container
		sees(t, edited(d.Do(t, "run", "--rm", "--network=none", ref), own), edited(printed, own))
		d.Do(t, "image", "rm", ref)
	})
	img := image(11, 300_000, "amd64") // neither of them can save the other one: see debianWith
	layout := layoutOf(t, img)
	processed(t, "ocidir://"+layout+":v1", at(ref), "--verify-full")
	t.Run("a second run loads nothing", func(t *testing.T) {
		for _, from := range []string{"ocidir://" + layout + ":v1", at(ref)} {
			if r := processed(t, from, at(ref)); !strings.Contains(r.stderr, "1 up to date") {
				t.Errorf("from %s it says %s", from, r.stderr)
			}
		}
	})
	t.Run("out of it", func(t *testing.T) { outOfDaemon(t, d, at(ref), img, transport) })
	t.Run("read in place", func(t *testing.T) {
		var info struct {
			Image, Tag string
			DiffIDs    []oci.Digest `json:"diff_ids"`
		}
		if err := json.Unmarshal([]byte(must(t, "info", "-O", "json", at(ref)).stdout), &info); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(info.DiffIDs, diffIDsOf(t, img)) || info.Image != "under/test" || info.Tag != "v1" {
			t.Errorf("info says %+v", info)
		}
		if out := must(t, "search", at(ref), "etc/motd").stdout; !strings.Contains(out, "etc/motd") {
			t.Errorf("search says %s", out)
		}
		must(t, "check", at(ref))
		if r := run(t, "info", at("quay.example/no/such:v1")); r.status != 1 || !strings.Contains(r.stderr, "Image not found: quay.example/no/such:v1") ||
			!strings.Contains(r.stderr, "registry://quay.example/no/such:v1") {
			t.Errorf("status %d, %s", r.status, r.stderr)
		}
	})
	t.Run("many", func(t *testing.T) {
		all := filepath.Join(t.TempDir(), "all")
		for i, name := range []string{"example.com/a/x:1", "example.com/b/x:1"} {
			processed(t, "ocidir://"+layoutOf(t, image(uint64(20+i), 5000, "amd64"))+":v1", "ocidir://"+all+":"+name)
		}
		processed(t, "ocidir://"+all, at(""), "--verify-full")
		for _, name := range []string{"example.com/a/x:1", "example.com/b/x:1"} {
			d.Do(t, "image", "inspect", name)
		}
	})
}

// outOfDaemon copies the image img at uri everywhere, without a temporary file,
// and compares what comes out with img and with what skopeo gets.
func outOfDaemon(t *testing.T, d daemontest.Daemon, uri string, img imagetest.Image, transport string) {
	dir := t.TempDir()
	far := startRegistry(t, nil)
	out := func(name string) string { return filepath.Join(dir, name) }
	for _, dest := range []string{"ocidir://" + out("layout") + ":v1", "oci-archive://" + out("archive") + ":v1",
		"registry://" + far.host + "/under/test:v1?insecure=true", "dir://" + out("dir")} {
		cmd := exec.CommandContext(t.Context(), tool(t), "process", uri, dest)
		cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + out("none")}
		if got, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("to %s: %v\n%s", dest, err, got)
		}
	}
	valid(t, out("layout"))
	want := onlyDigest(t, out("layout"))
	for _, from := range []string{"oci-archive://" + out("archive") + ":v1", "registry://" + far.host + "/under/test:v1?insecure=true"} {
		again := filepath.Join(t.TempDir(), "again")
		processed(t, from, "ocidir://"+again+":v1")
		if got := onlyDigest(t, again); got != want {
			t.Errorf("%s has %s, and the layout %s", from, got, want)
		}
	}
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	plain := append(diffIDsOf(t, img), m.Config.Digest)
	for _, id := range diffIDsOf(t, img) {
		raw, err := os.ReadFile(out("dir/" + id.Encoded() + "/layer.tar"))
		if err != nil || digest.FromBytes(raw) != id {
			t.Errorf("layer %s: %v", id, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(out("layout"), "blobs", "sha256", m.Config.Digest.Encoded())); err != nil || digest.FromBytes(raw) != m.Config.Digest {
		t.Errorf("the config: %v", err)
	}
	if transport == "" {
		return // skopeo speaks to podman's storage, not to its socket
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(uri, "docker://"), "?")
	skopeo(t, "copy", "--quiet", "--src-daemon-host", d.Host(), transport+":"+name, "dir:"+out("skopeo"))
	for _, id := range plain {
		raw, err := os.ReadFile(filepath.Join(out("skopeo"), id.Encoded()))
		if err != nil || digest.FromBytes(raw) != id {
			t.Errorf("skopeo got other bytes for %s: %v", id, err)
		}
	}
}
