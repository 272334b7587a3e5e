package bundle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/bundle"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// image is an image as a bundle takes it: a config and plain tars, lowest first.
type image struct {
	config ocispec.Image
	tars   [][]byte
}

func (i image) raw(t testing.TB) []byte {
	t.Helper()
	c := i.config
	c.RootFS = ocispec.RootFS{Type: "layers"}
	for _, l := range i.tars {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var ref = oci.Ref{Registry: "quay.io", Repository: "org/app", Tag: "v1"}

func open(t testing.TB, uri string, warned *[]string) (oci.Destination, error) {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	env := backend.Env{}
	if warned != nil {
		env.Warn = func(s string) { *warned = append(*warned, s) }
	}
	target, err := bundle.Kind.Target(t.Context(), u, env)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := errors.Join(target.Finish(context.WithoutCancel(t.Context())), target.Close()); err != nil {
			t.Error(err)
		}
	})
	d, err := target.Image(t.Context(), ref)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func blob(index int, raw []byte) oci.Blob {
	return oci.Blob{
		Desc: oci.Descriptor{Digest: digest.FromBytes(raw), Size: -1}, Layer: index,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	}
}

var from = oci.Descriptor{Digest: digest.FromString("manifest")}

// fill delivers img to d.
func fill(t testing.TB, d oci.Destination, img image) error {
	t.Helper()
	if _, err := d.PutBlob(t.Context(), blob(oci.NoLayer, img.raw(t))); err != nil {
		return err
	}
	for i, l := range img.tars {
		if _, err := d.PutBlob(t.Context(), blob(i, l)); err != nil {
			return err
		}
	}
	return d.Commit(t.Context(), oci.Descriptor{}, from)
}

// write writes img to uri, and verifies it.
func write(t testing.TB, uri string, img image, warned *[]string) error {
	t.Helper()
	d, err := open(t, uri, warned)
	if err != nil {
		return err
	}
	if err := fill(t, d, img); err != nil {
		return err
	}
	return errors.Join(d.Verify(t.Context(), oci.Descriptor{}, false), d.Verify(t.Context(), oci.Descriptor{}, true), d.Close())
}

func linux(c ocispec.ImageConfig) ocispec.Image {
	return ocispec.Image{Platform: imagetest.Linux, Config: c}
}

var small = image{linux(ocispec.ImageConfig{Cmd: []string{"/x"}}), [][]byte{imagetest.Tar(imagetest.File("a", "1"), imagetest.File("b", "2")), imagetest.Tar(imagetest.File(".wh.a", ""), imagetest.File("c", "3"))}}

// names lists what is in dir, hidden things too.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestBundle(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "deep/er/b")
	if err := write(t, "oci://"+path, small, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, path), []string{"config.json", "container-config.json", "rootfs"}; !slices.Equal(got, want) {
		t.Errorf("bundle: got %q, want %q", got, want)
	}
	if got, want := names(t, path+"/rootfs"), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("rootfs: got %q, want %q", got, want)
	}
	if got := names(t, base+"/deep/er"); len(got) != 1 {
		t.Errorf("beside it: got %q", got)
	}
	raw, err := os.ReadFile(path + "/container-config.json")
	if err != nil || !bytes.Equal(raw, small.raw(t)) {
		t.Errorf("config: got %q, %v, want the image's bytes", raw, err)
	}

	d, err := open(t, "oci://"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	head, err := d.Head(t.Context(), "")
	if err != nil || head.Digest != from.Digest {
		t.Errorf("second run: got %v, %v, want %s", head.Digest, err, from.Digest)
	}
	if err := d.Verify(t.Context(), head, true); err != nil {
		t.Errorf("verify an earlier run's: %v", err)
	}
	if err := os.Remove(path + "/rootfs/b"); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(t.Context(), head, true); !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("verify with a file less: got %v", err)
	}
}

func TestSameBytes(t *testing.T) {
	base := t.TempDir()
	var specs []string
	for i := range 2 {
		path := fmt.Sprintf("%s/%d", base, i)
		if err := write(t, "oci://"+path, small, nil); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path + "/config.json")
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, string(raw))
	}
	if specs[0] != specs[1] {
		t.Errorf("config.json: %s differs from %s", specs[0], specs[1])
	}
}

func TestRefuses(t *testing.T) {
	other := image{linux(ocispec.ImageConfig{Cmd: []string{"/y"}}), small.tars}
	tests := []struct {
		name   string
		before func(path string) error
		uri    string
		img    image
		want   error
	}{
		{"an empty folder", func(p string) error { return os.Mkdir(p, 0o755) }, "oci://%s", small, nil},
		{"a folder of the user's", func(p string) error { return os.MkdirAll(p+"/rootfs", 0o755) }, "oci://%s", small, oci.ErrRefused},
		{"a folder of the user's, overwritten", func(p string) error { return os.MkdirAll(p+"/rootfs/etc", 0o755) }, "oci://%s?overwrite=true", small, nil},
		{"a bundle of another image", func(p string) error { return write(t, "oci://"+p, other, nil) }, "oci://%s", small, oci.ErrRefused},
		{"a bundle of another image, overwritten", func(p string) error { return write(t, "oci://"+p, other, nil) }, "oci://%s?overwrite=true", small, nil},
		{"a file", func(p string) error { return os.WriteFile(p, nil, 0o644) }, "oci://%s", small, oci.ErrUsage},
		{"a layout's name", nil, "oci://%s:v1", small, oci.ErrUsage},
		{"an odd network", nil, "oci://%s?network=lan", small, oci.ErrUsage},
		{"windows", nil, "oci://%s", image{ocispec.Image{Platform: oci.Platform{OS: "windows", Architecture: "amd64"}}, small.tars}, oci.ErrUnsupported},
		{"a user that isn't there", nil, "oci://%s", image{linux(ocispec.ImageConfig{User: "nobody"}), small.tars}, oci.ErrInvalid},
		{"a zero byte", nil, "oci://%s", image{linux(ocispec.ImageConfig{WorkingDir: "/a\x00b"}), small.tars}, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			path := filepath.Join(base, "b")
			var before []string
			if tt.before != nil {
				if err := tt.before(path); err != nil {
					t.Fatal(err)
				}
				before = names(t, base)
			}
			err := write(t, fmt.Sprintf(tt.uri, path), tt.img, nil)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if tt.want == nil {
				before = []string{"b"}
				if got := names(t, path+"/rootfs"); !slices.Equal(got, []string{"b", "c"}) {
					t.Errorf("rootfs: got %q", got)
				}
			}
			if got := names(t, base); tt.want == nil && !slices.Equal(got, before) {
				t.Errorf("beside it: got %q, want %q", got, before)
			}
		})
	}
}

// TestAttempts: what a broken attempt has put is not in the bundle.
func TestAttempts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b")
	d, err := open(t, "oci://"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	img := image{linux(ocispec.ImageConfig{}), [][]byte{
		imagetest.Tar(imagetest.File("lower", "1"), imagetest.File("gone", "2")),
		imagetest.Tar(imagetest.File(".wh.gone", ""), imagetest.File("upper", strings.Repeat("u", 4096))),
		imagetest.Tar(imagetest.File("lower", "1"), imagetest.File("gone", "2")), // stands twice
	}}
	if _, err := d.PutBlob(t.Context(), blob(oci.NoLayer, img.raw(t))); err != nil {
		t.Fatal(err)
	}
	for i, l := range img.tars {
		b := blob(i, l)
		var opened atomic.Int32
		b.Open = func(context.Context) (io.ReadCloser, error) {
			raw := slices.Clone(l)
			switch n := opened.Add(1); {
			case i == 1 && n == 1: // another layer's bytes, whole
				raw = imagetest.Tar(imagetest.File("evil", "x"), imagetest.File(".wh.lower", ""))
			case i == 1 && n == 2: // cut off
				raw = raw[:1500]
			}
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		if _, err := d.PutBlob(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(t.Context(), oci.Descriptor{}, from); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(t.Context(), oci.Descriptor{}, true); err != nil {
		t.Error(err)
	}
	if got, want := names(t, path+"/rootfs"), []string{"gone", "lower", "upper"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNothingIsLeft(t *testing.T) {
	base := t.TempDir()
	t.Run("failed", func(t *testing.T) {
		d, err := open(t, "oci://"+base+"/x/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.PutBlob(t.Context(), blob(0, []byte(strings.Repeat("no tar", 500)))); err == nil {
			t.Error("no tar was taken")
		}
		if err := d.Commit(t.Context(), oci.Descriptor{}, from); err == nil {
			t.Error("it was committed")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		d, err := open(t, "oci://"+base+"/x/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		b := blob(0, nil)
		b.Desc.Digest = ""
		b.Open = func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(imagetest.Tar(imagetest.File("a", "1"))[:1024]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))), nil
		}
		if _, err := d.PutBlob(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("killed", func(t *testing.T) { // as a killed process leaves it
		if err := os.MkdirAll(base+"/x/.b.quaymaster-abc/new/rootfs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := write(t, "oci://"+base+"/x/b", small, nil); err != nil {
			t.Fatal(err)
		}
		if got := names(t, base+"/x"); !slices.Equal(got, []string{"b"}) {
			t.Errorf("got %q", got)
		}
		if err := os.RemoveAll(base + "/x"); err != nil {
			t.Fatal(err)
		}
	})
	if got := names(t, base); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDamage(t *testing.T) {
	tests := []struct {
		name string
		do   func(path string) error
		full bool
	}{
		{"another size", func(p string) error { return os.WriteFile(p+"/rootfs/b", []byte("22"), 0o644) }, false},
		{"another content", func(p string) error { return os.WriteFile(p+"/rootfs/b", []byte("3"), 0o644) }, true},
		{"another type", func(p string) error { return errors.Join(os.Remove(p+"/rootfs/b"), os.Mkdir(p+"/rootfs/b", 0o755)) }, false},
		{"one less", func(p string) error { return os.Remove(p + "/rootfs/b") }, false},
		{"one more", func(p string) error { return os.WriteFile(p+"/rootfs/d", nil, 0o644) }, false},
		{"no config", func(p string) error { return os.Remove(p + "/container-config.json") }, false},
		{"another config", func(p string) error { return os.WriteFile(p+"/container-config.json", []byte("{}"), 0o644) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "b")
			d, err := open(t, "oci://"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(fill(t, d, small), tt.do(path)); err != nil {
				t.Fatal(err)
			}
			if err := d.Verify(t.Context(), oci.Descriptor{}, true); err == nil {
				t.Error("full: it was verified")
			}
			if err := d.Verify(t.Context(), oci.Descriptor{}, false); (err == nil) != tt.full {
				t.Errorf("short: got %v", err)
			}
		})
	}
}
