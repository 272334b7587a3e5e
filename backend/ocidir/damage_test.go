package ocidir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

// made gives a layout that holds multi as h.x/a:1.
func made(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := put(t.Context(), openTarget(t, "ocidir://"+dir), "h.x/a:1", multi); err != nil {
		t.Fatal(err)
	}
	return dir
}

func file(dir string, d oci.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

func flip(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	raw[len(raw)/2] ^= 1
	return os.WriteFile(name, raw, 0o644)
}

// replace puts a link in the place of the file name.
func replace(name, link string) error { return errors.Join(os.Remove(name), os.Symlink(link, name)) }

// TestDamagedSource reads a layout that somebody has been at: no byte of it, or
// of a file outside, comes out as the blob.
func TestDamagedSource(t *testing.T) {
	manifest := multi.Children[0].Desc.Digest
	layer := base.Desc
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, base.Bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		manifest bool // the damage is to the manifest, not to the layer
		damage   func(name string) error
		kind     error
	}{
		{"manifest with another byte", true, flip, oci.ErrDigestMismatch},
		{"manifest gone", true, os.Remove, oci.ErrNotFound},
		{"manifest over 4 MiB", true, func(n string) error { return os.Truncate(n, 5<<20) }, oci.ErrTooLarge},
		{"manifest a folder", true, func(n string) error { return errors.Join(os.Remove(n), os.Mkdir(n, 0o755)) }, oci.ErrInvalid},
		{"layer with another byte", false, flip, oci.ErrDigestMismatch},
		{"layer too short", false, func(n string) error { return os.Truncate(n, 10) }, oci.ErrDigestMismatch},
		{"layer too long", false, func(n string) error { return os.Truncate(n, 100_000) }, oci.ErrDigestMismatch},
		{"layer gone", false, os.Remove, oci.ErrNotFound},
		{"layer a link out of the layout", false, func(n string) error { return replace(n, secret) }, nil},
		{"layer a relative link out of the layout", false, func(n string) error {
			rel, err := filepath.Rel(filepath.Dir(n), secret)
			return errors.Join(err, replace(n, rel))
		}, nil},
		{"layer a pipe", false, func(n string) error { return errors.Join(os.Remove(n), unix.Mkfifo(n, 0o644)) }, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := made(t)
			d := layer.Digest
			if tt.manifest {
				d = manifest
			}
			if err := tt.damage(file(dir, d)); err != nil {
				t.Fatal(err)
			}
			images := openSource(t, "ocidir://"+dir, nil)
			src, err := images.Source(t.Context(), oci.Item{Desc: multi.Desc})
			if err != nil {
				t.Fatal(err)
			}
			if tt.manifest {
				_, _, err = src.Resolve(t.Context(), string(d))
			} else {
				var rc io.ReadCloser
				if rc, err = src.Fetch(t.Context(), layer); err == nil {
					_, err = io.ReadAll(rc)
					rc.Close()
				}
			}
			if err == nil || tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}
			if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), d.Encoded()) {
				t.Errorf("%q doesn't name the layout and the file", err)
			}
		})
	}
}

// TestSecondRunMends: Head says of a damaged image that it isn't there, and to
// write it again makes it whole.
func TestSecondRunMends(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"layer gone":            func(dir string) error { return os.Remove(file(dir, base.Desc.Digest)) },
		"layer short":           func(dir string) error { return os.Truncate(file(dir, base.Desc.Digest), 100) },
		"index gone":            func(dir string) error { return os.Remove(file(dir, multi.Desc.Digest)) },
		"child manifest gone":   func(dir string) error { return os.Remove(file(dir, multi.Children[1].Desc.Digest)) },
		"child manifest other":  func(dir string) error { return flip(file(dir, multi.Children[1].Desc.Digest)) },
		"index.json gone":       func(dir string) error { return os.Remove(dir + "/index.json") },
		"only oci-layout there": func(dir string) error { return errors.Join(os.RemoveAll(dir+"/blobs"), os.Remove(dir+"/index.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := made(t)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			target := openTarget(t, "ocidir://"+dir)
			dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
			if err != nil {
				t.Fatal(err)
			}
			if d, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
				t.Fatalf("got %s, %v, want not found", d.Digest, err)
			}
			if err := put(t.Context(), target, "h.x/a:1", multi); err != nil {
				t.Fatal(err)
			}
			if err := dst.Verify(t.Context(), multi.Desc, true); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	config := func() oci.Digest {
		for d, b := range first.Blobs {
			if b[0] == '{' {
				return d
			}
		}
		return ""
	}()
	tests := []struct {
		name        string
		damage      func(dir string) error
		short, full error
	}{
		{"whole", func(string) error { return nil }, nil, nil},
		{"layer with another byte", func(dir string) error { return flip(file(dir, base.Desc.Digest)) }, nil, oci.ErrDigestMismatch},
		{"layer short", func(dir string) error { return os.Truncate(file(dir, base.Desc.Digest), 9) }, oci.ErrNotFound, oci.ErrNotFound},
		{"config with another byte", func(dir string) error { return flip(file(dir, config)) }, oci.ErrDigestMismatch, oci.ErrDigestMismatch},
		{"manifest with another byte", func(dir string) error { return flip(file(dir, first.Desc.Digest)) }, oci.ErrDigestMismatch, oci.ErrDigestMismatch},
		{"not in index.json", func(dir string) error {
			return os.WriteFile(dir+"/index.json", []byte(`{"schemaVersion":2,"manifests":[]}`), 0o644)
		}, oci.ErrNotFound, oci.ErrNotFound},
		{"another image by now", func(dir string) error {
			return put(context.Background(), openTarget(t, "ocidir://"+dir), "h.x/a:1", other)
		}, oci.ErrDigestMismatch, oci.ErrDigestMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := made(t)
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			dst, err := openTarget(t, "ocidir://"+dir).Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
			if err != nil {
				t.Fatal(err)
			}
			if err := dst.Verify(t.Context(), multi.Desc, false); !errors.Is(err, tt.short) {
				t.Errorf("short: got %v, want %v", err, tt.short)
			}
			if err := dst.Verify(t.Context(), multi.Desc, true); !errors.Is(err, tt.full) {
				t.Errorf("full: got %v, want %v", err, tt.full)
			}
		})
	}
}

// TestForeignEntries reads names that other tools write, and that attackers do.
func TestForeignEntries(t *testing.T) {
	dir := made(t)
	entry := func(annotations string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%s}}`, first.Desc.MediaType, first.Desc.Digest, first.Desc.Size, annotations)
	}
	index := `{"schemaVersion":2,"manifests":[` + strings.Join([]string{
		entry(`"org.opencontainers.image.ref.name":"../../../etc/passwd"`),
		entry(`"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"docker.io/library/x:1"`),
		entry(`"k":"v"`),
	}, ",") + `]}`
	if err := os.WriteFile(dir+"/index.json", []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	var warned []string
	images := openSource(t, "ocidir://"+dir, func(s string) { warned = append(warned, s) })
	d := string(first.Desc.Digest)
	if got, want := list(t, images), []string{"docker.io/library/x:1 " + d, d + " " + d}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(warned) == 0 || !strings.Contains(warned[0], `"../../../etc/passwd"`) {
		t.Errorf("warned %q", warned)
	}
	if err := put(t.Context(), openTarget(t, "ocidir://"+dir), "h.x/new:1", first); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(dir + "/index.json")
	if err != nil || strings.Count(string(raw), `"digest"`) != 4 || !strings.Contains(string(raw), "../../../etc/passwd") {
		t.Errorf("entries of others were lost: %s, %v", raw, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name                   string
		make                   func(dir string) error
		target, source         error
		targetSays, sourceSays string
	}{
		{"an empty folder", func(string) error { return nil }, nil, oci.ErrUsage, "", "no OCI layout"},
		{"somebody's folder", func(dir string) error { return os.WriteFile(dir+"/thesis.tex", nil, 0o644) }, oci.ErrUsage, oci.ErrUsage, "thesis.tex", "no OCI layout"},
		{"a layout of the future", func(dir string) error {
			return os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion":"9"}`), 0o644)
		}, oci.ErrUnsupported, oci.ErrUnsupported, `"9"`, `"9"`},
		{"no folder", os.Remove, nil, oci.ErrNotFound, "", "there is no such folder"},
		{"a file", func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o644)) }, oci.ErrUsage, oci.ErrUsage, "is a file", "is a file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "the-layout")
			if err := errors.Join(os.Mkdir(dir, 0o755), tt.make(dir)); err != nil {
				t.Fatal(err)
			}
			u, err := backend.ParseURI("ocidir://" + dir)
			if err != nil {
				t.Fatal(err)
			}
			target, err := ocidir.Kind.Target(t.Context(), u, backend.Env{})
			if !errors.Is(err, tt.target) || err != nil && !strings.Contains(err.Error(), tt.targetSays) {
				t.Errorf("target: got %v, want %v with %q", err, tt.target, tt.targetSays)
			}
			if err == nil {
				if err := target.Close(); err != nil {
					t.Error(err)
				}
			}
			images, err := ocidir.Kind.Source(t.Context(), u, backend.Env{})
			if !errors.Is(err, tt.source) || err == nil || !strings.Contains(err.Error(), tt.sourceSays) {
				t.Errorf("source: got %v, want %v with %q", err, tt.source, tt.sourceSays)
			}
			if err == nil {
				images.Close()
			}
		})
	}
}

func TestCommitWantsTheRoot(t *testing.T) {
	dir := t.TempDir()
	dst, err := openTarget(t, "ocidir://"+dir).Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), first.Desc, first.Desc); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// TestManyAtOnce commits images that share blobs side by side.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	target := openTarget(t, "ocidir://"+dir)
	var wg sync.WaitGroup
	const n = 40
	for i := range n {
		wg.Go(func() {
			img := first
			if i%2 == 1 {
				img = imagetest.New(imagetest.Linux, nil, base, imagetest.Random(uint64(100+i), 50))
			}
			if err := put(t.Context(), target, fmt.Sprintf("h.x/r%d:1", i), img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := list(t, openSource(t, "ocidir://"+dir, nil)); len(got) != n {
		t.Errorf("%d images, want %d", len(got), n)
	}
}

func TestFullDisk(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	target := openTarget(t, "ocidir://"+dir)
	if err := put(t.Context(), target, "h.x/small:1", first); err != nil {
		t.Fatal(err)
	}
	err := put(t.Context(), target, "h.x/big:1", imagetest.New(imagetest.Linux, nil, imagetest.Random(9, 2<<20)))
	if !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), ".quaymaster") || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q, want one line that names the layout and no temporary file", err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, openSource(t, "ocidir://"+dir, nil)), []string{"h.x/small:1 " + string(first.Desc.Digest)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	entries, err := os.ReadDir(dir + "/blobs/sha256")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(dir + "/blobs/sha256/" + e.Name())
		if err != nil || digest.FromBytes(raw).Encoded() != e.Name() {
			t.Errorf("%s is not whole, %v", e.Name(), err)
		}
	}
}
