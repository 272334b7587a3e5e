package daemon_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/daemon"
	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

func TestDocker(t *testing.T) { real(t, daemontest.Docker(t)) }

func TestPodman(t *testing.T) { real(t, daemontest.Podman(t)) }

// real is all that is tested with a daemon that runs.
func real(t *testing.T, d daemontest.Daemon) {
	img := runnable(t)
	t.Run("load, run, read", func(t *testing.T) { roundTrip(t, d, img) })
	t.Run("a name without a host", func(t *testing.T) { plainName(t, d) })
	t.Run("imported", func(t *testing.T) { imported(t, d) })
	t.Run("damaged", func(t *testing.T) { damagedLoad(t, d) })
	t.Run("absent", func(t *testing.T) { absentImage(t, d) })
	t.Run("record", func(t *testing.T) { record(t, d) })
}

// runnable is an image that prints what its layers hold; one of them stands
// twice in it.
func runnable(t *testing.T) plainImage {
	t.Helper()
	busybox, err := os.ReadFile(need.Program(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	return newPlain(t, []string{"/busybox", "cat", "/etc/one", "/etc/two"},
		tarOf(t, map[string]string{"busybox": string(busybox)}),
		tarOf(t, map[string]string{"etc/one": "one\n"}),
		tarOf(t, map[string]string{"etc/two": "two\n"}),
		tarOf(t, map[string]string{"etc/one": "one\n"}))
}

func roundTrip(t *testing.T, d daemontest.Daemon, img plainImage) {
	const name = "localhost:5000/some/team/app:v1.0"
	dest := newTarget(t, d, "").image(t, "localhost:5000/some/team/app:v1.0")
	if _, err := dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	root := img.put(t, dest)
	if err := dest.Commit(t.Context(), root, root); err != nil {
		t.Fatal(err)
	}
	for _, full := range []bool{false, true} {
		if err := dest.Verify(t.Context(), root, full); err != nil {
			t.Errorf("verify, full %v: %v", full, err)
		}
	}
	head, err := dest.Head(t.Context(), "")
	if err != nil || head.Annotations[oci.AnnotationConfig] != string(img.config.Desc.Digest) {
		t.Errorf("afterwards: %+v, %v", head, err)
	}
	if out := d.Do(t, "run", "--rm", "--network=none", name); out != "one\ntwo\n" {
		t.Errorf("the container printed %q", out)
	}
	id := strings.TrimPrefix(string(img.config.Desc.Digest), "sha256:")
	for _, uri := range []string{name, id, id[:12], "sha256:" + id} {
		img.check(t, openImage(t, d, uri))
	}
}

// plainName is a name that daemons complete: Docker with docker.io/library/,
// podman with localhost/.
func plainName(t *testing.T, d daemontest.Daemon) {
	img := newPlain(t, []string{"/x"}, tarOf(t, map[string]string{"x": "plain"}))
	dest := newTarget(t, d, "plain:v1").image(t, "a/b:c")
	root := img.put(t, dest)
	if err := dest.Commit(t.Context(), root, root); err != nil {
		t.Fatal(err)
	}
	img.check(t, openImage(t, d, "plain:v1"))
}

// imported is an image that the daemon itself has made.
func imported(t *testing.T, d daemontest.Daemon) {
	raw := tarOf(t, map[string]string{"hello": "world"})
	file := t.TempDir() + "/root.tar"
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Do(t, "import", "--change", "ENV A=b", file, "example.com/imported:latest")
	src := openImage(t, d, "example.com/imported")
	_, config, err := src.(oci.Describer).Describe(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Architecture, OS, Created string
		Config                    struct{ Env []string }
		RootFS                    struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		}
		History []struct{ Created, Comment string }
	}
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	if c.OS != "linux" || c.Architecture == "" || c.Created == "" || len(c.History) != 1 || !strings.Contains(strings.ToLower(c.History[0].Comment), "import") ||
		len(c.RootFS.DiffIDs) != 1 || c.RootFS.DiffIDs[0] != digest.FromBytes(raw) || len(c.Config.Env) == 0 || c.Config.Env[len(c.Config.Env)-1] != "A=b" {
		t.Errorf("described as %s", config)
	}
	got := readStream(t, src)
	if !bytes.Equal(got.layers[digest.FromBytes(raw)], raw) || len(got.layers) != 1 {
		t.Errorf("got %d layers", len(got.layers))
	}
}

// damagedLoad is what a daemon says to a layer that is no tar, in an answer that
// begins well.
func damagedLoad(t *testing.T, d daemontest.Daemon) {
	dest := newTarget(t, d, "damaged:v1").image(t, "example.com/other:v2")
	root := newPlain(t, []string{"/x"}, bytes.Repeat([]byte("no tar at all "), 5000)).put(t, dest)
	err := dest.Commit(t.Context(), root, root)
	if err == nil || !strings.Contains(err.Error(), "load image damaged:v1: ask daemon unix://"+d.Socket+": ") {
		t.Errorf("load: %v", err)
	}
	if _, err := dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

func absentImage(t *testing.T, d daemontest.Daemon) {
	for _, call := range []func(src oci.Source) error{
		func(src oci.Source) error { _, _, err := src.Resolve(t.Context(), ""); return err },
		func(src oci.Source) error { _, _, err := src.(oci.Describer).Describe(t.Context(), ""); return err },
		func(src oci.Source) error {
			for _, err := range src.(oci.Streamer).Stream(t.Context(), "") {
				return err
			}
			return nil
		},
	} {
		err := call(openImage(t, d, "quay.example/no/such:v1"))
		if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "Image not found: quay.example/no/such:v1") ||
			!strings.Contains(err.Error(), "for a registry write registry://quay.example/no/such:v1") {
			t.Errorf("got %v", err)
		}
		if err := call(openImage(t, d, "nosuch")); !errors.Is(err, oci.ErrNotFound) || strings.Contains(err.Error(), "registry://") {
			t.Errorf("got %v", err)
		}
	}
}

func openURI(t testing.TB, uri string) backend.URI {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// openImage opens an image of d.
func openImage(t *testing.T, d daemontest.Daemon, name string) oci.Source {
	t.Helper()
	return openSource(t, "docker://"+name+"?socket="+d.Socket)
}

func openSource(t testing.TB, uri string) oci.Source {
	t.Helper()
	images, err := daemon.Kind.Source(t.Context(), openURI(t, uri), backend.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := images.Close(); err != nil {
			t.Error(err)
		}
	})
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		src, err := images.Source(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	t.Fatal("no image")
	return nil
}

type target struct{ oci.Target }

// newTarget opens d as docker://NAME.
func newTarget(t *testing.T, d daemontest.Daemon, name string) target {
	t.Helper()
	return openTarget(t, "docker://"+name+"?socket="+d.Socket)
}

func openTarget(t *testing.T, uri string) target {
	t.Helper()
	p, err := daemon.Kind.Target(t.Context(), openURI(t, uri), backend.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return target{p}
}

func (p target) image(t *testing.T, name string) oci.Destination {
	t.Helper()
	ref, err := oci.ParseRef(name, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	dest, err := p.Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dest.Close(); err != nil {
			t.Error(err)
		}
	})
	return dest
}

// read opens and reads a blob.
func read(t *testing.T, src oci.Source, d oci.Descriptor) []byte {
	t.Helper()
	rc, err := src.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
