package ocidir_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

func umoci(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), need.Program(t, "umoci"), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("umoci %q: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

func TestUmociReadsOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	target := openTarget(t, "ocidir://"+dir)
	img := imagetest.New(imagetest.Linux, nil,
		imagetest.Files(map[string]string{"etc/motd": "hello\n", "etc/gone": "x"}), imagetest.Files(map[string]string{"etc/.wh.gone": "", "opt/grün": "ja"}))
	if err := errors.Join(put(t.Context(), target, "quay.io/a/b:1", img), put(t.Context(), target, "quay.io/a/b:2", other), target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(umoci(t, "ls", "--layout", dir)); !slices.Equal(got, []string{"quay.io/a/b:1", "quay.io/a/b:2"}) {
		t.Errorf("umoci ls: %q", got)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	umoci(t, "unpack", "--rootless", "--image", dir+":quay.io/a/b:1", bundle)
	for name, want := range map[string]string{"etc/motd": "hello\n", "opt/grün": "ja"} {
		if got, err := os.ReadFile(filepath.Join(bundle, "rootfs", name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(bundle, "rootfs/etc/gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was deleted: %v", err)
	}

	// What it writes beside ours is read, and stays when we write again.
	umoci(t, "config", "--image", dir+":quay.io/a/b:1", "--tag", "theirs", "--config.cmd", "/bin/theirs")
	target = openTarget(t, "ocidir://"+dir)
	if err := errors.Join(put(t.Context(), target, "quay.io/a/b:3", first), target.Finish(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := list(t, openSource(t, "ocidir://"+dir, nil)); len(got) != 4 {
		t.Errorf("listed %q", got)
	}
	config := func(name string) string { return configOf(t, openSource(t, "ocidir://"+dir+":"+name, nil)) }
	if !strings.Contains(config("theirs"), "/bin/theirs") || strings.Contains(config("1"), "/bin/theirs") {
		t.Error("umoci's change isn't in its image, or in ours too")
	}
}

func TestReadsUmocis(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 1024), 0o644); err != nil {
		t.Fatal(err)
	}
	umoci(t, "init", "--layout", dir)
	if got := list(t, openSource(t, "ocidir://"+dir, nil)); len(got) != 0 {
		t.Errorf("an empty layout lists %q", got)
	}
	umoci(t, "new", "--image", dir+":v1")
	umoci(t, "insert", "--rootless", "--image", dir+":v1", file, "/opt/file")
	umoci(t, "config", "--image", dir+":v1", "--config.env", "A=b", "--tag", "v2")
	src := openSource(t, "ocidir://"+dir, func(s string) { t.Error(s) })
	got := list(t, src)
	if len(got) != 2 || !strings.HasPrefix(got[0], "v1 ") || !strings.HasPrefix(got[1], "v2 ") {
		t.Fatalf("listed %q", got)
	}
	if c := configOf(t, openSource(t, "ocidir://"+dir+":v2", nil)); !strings.Contains(c, "A=b") {
		t.Errorf("config %s", c)
	}
}

// configOf reads an image to its end and gives its config.
func configOf(t *testing.T, images backend.Images) string {
	t.Helper()
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		src, err := images.Source(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		_, raw, err := src.Resolve(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		var text string
		for _, d := range append(m.Layers, m.Config) {
			rc, err := src.Fetch(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(rc)
			if err := errors.Join(err, rc.Close()); err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		return text
	}
	t.Fatal("no image")
	return ""
}
