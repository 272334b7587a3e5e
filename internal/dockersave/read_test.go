package dockersave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// fetch reads a blob of i.
func fetch(ctx context.Context, i *Image, d oci.Descriptor) ([]byte, error) {
	rc, err := i.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestEveryFormGivesTheSameImage(t *testing.T) {
	const tag = "quay.io/kolla/nova-api:2025.1"
	forms := map[string][]byte{
		"classic":            classic(tag),
		"docker 25":          modern(asIs, tag),
		"docker 25 in gzip":  modern(gzipped, tag),
		"docker 25 in zstd":  modern(zstded, tag),
		"podman":             podman(tag),
		"hard links":         byHardLinks(tag),
		"a whole archive gz": gzipped(classic(tag)),
	}
	want := readBytes(t, classic(tag)).Images[0]
	wantDesc, wantRaw, err := want.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if wantDesc.Annotations[oci.AnnotationSynthetic] != "true" {
		t.Errorf("the manifest isn't said to be made up: %v", wantDesc)
	}
	for form, raw := range forms {
		t.Run(form, func(t *testing.T) {
			a := readBytes(t, raw)
			if got := names(a); len(a.Images) != 1 || got != tag {
				t.Fatalf("%d images, called %q", len(a.Images), got)
			}
			i := a.Images[0]
			if i.Renamed() {
				t.Error("the config is said to be renamed")
			}
			d, raw, err := i.Resolve(t.Context(), "2025.1")
			if err != nil || d.Digest != wantDesc.Digest || !bytes.Equal(raw, wantRaw) {
				t.Errorf("resolved to %s, %v, want %s", d.Digest, err, wantDesc.Digest)
			}
			m, err := oci.ParseManifest(d.MediaType, raw)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := fetch(t.Context(), i, *m.Config); err != nil || !bytes.Equal(got, twice.config.Bytes) {
				t.Errorf("config: %d bytes, %v", len(got), err)
			}
			for n, l := range m.Layers {
				if got, err := fetch(t.Context(), i, l); err != nil || !bytes.Equal(got, twice.layers[n]) || l.Digest != twice.ids[n] {
					t.Errorf("layer %d: %d bytes of %s, %v", n, len(got), l.Digest, err)
				}
			}
			for _, ref := range []string{tag, string(d.Digest), string(twice.config.Desc.Digest)} {
				if h, err := i.Head(t.Context(), ref); err != nil || h.Digest != d.Digest {
					t.Errorf("head of %s: %s, %v", ref, h.Digest, err)
				}
			}
			if _, err := i.Head(t.Context(), "other"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("another tag: %v", err)
			}
		})
	}
}

// TestFetchChecks: who stores what is fetched needn't hash it, whatever the layer
// is packed in.
func TestFetchChecks(t *testing.T) {
	for form, raw := range map[string][]byte{"plain": modern(asIs, "quay.io/a/b:1"), "gzip": modern(gzipped, "quay.io/a/b:1")} {
		i := readBytes(t, raw).Images[0]
		for _, d := range []oci.Descriptor{twice.config.Desc, {Digest: twice.ids[0], Size: -1}} {
			rc, err := i.Fetch(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if !oci.Checks(rc, d.Digest) || oci.Checks(rc, digest.FromString("x")) {
				t.Errorf("%s: %s isn't said to be checked, or another is", form, d.Digest)
			}
			if _, err := rc.Read(make([]byte, 1)); err != nil || oci.Checks(rc, d.Digest) {
				t.Errorf("%s: the rest of %s is said to be checked: %v", form, d.Digest, err)
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDescribeReadsNoLayer(t *testing.T) {
	i := readBytes(t, modern(gzipped, "a:1")).Images[0]
	if _, ok := i.Known(); ok {
		t.Error("the manifest's digest is known before compressed layers were read")
	}
	d, raw, err := i.Describe(t.Context(), "1")
	if err != nil || !bytes.Equal(raw, twice.config.Bytes) || d.Annotations[oci.AnnotationConfig] != string(twice.config.Desc.Digest) {
		t.Errorf("%v, %d bytes, %v", d, len(raw), err)
	}
	if _, ok := i.Known(); ok {
		t.Error("Describe read the layers")
	}
	want, _, err := i.Manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := i.Known(); !ok || got.Digest != want.Digest {
		t.Errorf("known is %v, %v after the layers were read", got, ok)
	}
}

func TestSeveralImages(t *testing.T) {
	raw := imagetest.Tar(
		imagetest.File("1.json", string(twice.config.Bytes)), imagetest.File("2.json", string(other.config.Bytes)),
		imagetest.File("base", string(base)), imagetest.File("app", string(app)), imagetest.File("other", string(other.layers[1])),
		manifest(
			Entry{Config: "1.json", RepoTags: []string{"kolla/a:1", "localhost:5000/b:2", "moved:1"}, Layers: []string{"base", "app", "base"}},
			Entry{Config: "2.json", RepoTags: []string{"busybox", "moved:1", "UPPER:1", "a b"}, Layers: []string{"base", "other"}},
			Entry{Config: "2.json", Layers: []string{"base", "other"}},
		),
	)
	a := readBytes(t, raw)
	if got := names(a); got != "kolla/a:1 localhost:5000/b:2 busybox:latest moved:1" {
		t.Errorf("names %q", got)
	}
	if len(a.Images) != 3 || len(a.Images[2].Names) != 0 {
		t.Errorf("%d images", len(a.Images))
	}
	if got := strings.Join(a.Unreadable, ", "); got != "UPPER:1, a b" {
		t.Errorf("unreadable %q", got)
	}
}

// TestManyImagesShareAConfig: what is kept of an image is not what it says that it
// has, and names that come again cost no more than others.
func TestManyImagesShareAConfig(t *testing.T) {
	const images = 3000
	tags := make([]string, 100)
	for i := range tags {
		tags[i] = fmt.Sprintf("app:%d", i/2) // each twice
	}
	list := make([]Entry, images)
	for i := range list {
		list[i] = Entry{Config: "c", RepoTags: tags, Layers: []string{"base", "app", "base"}}
	}
	a := readBytes(t, imagetest.Tar(imagetest.File("c", string(twice.config.Bytes)), imagetest.File("base", string(base)), imagetest.File("app", string(app)), manifest(list...)))
	for n, i := range a.Images {
		if id, err := i.ID(); err != nil || id != twice.config.Desc.Digest {
			t.Fatalf("image %d: %s, %v", n, id, err)
		}
		if want := map[bool]int{true: 50}[n == images-1]; len(i.Names) != want {
			t.Fatalf("image %d has %d names, want %d", n, len(i.Names), want)
		}
	}
	if len(a.configs) != 1 || len(a.layers) != 2 {
		t.Errorf("%d configs and %d layers are kept", len(a.configs), len(a.layers))
	}
}

func TestWhatIsNoImageArchive(t *testing.T) {
	config := imagetest.File("c.json", string(twice.config.Bytes))
	layers := imagetest.File("l", string(base))
	entry := func(layers ...string) imagetest.Entry { return manifest(Entry{Config: "c.json", Layers: layers}) }
	tests := []struct {
		name string
		raw  []byte
		want error
		text string
	}{
		{"no manifest.json", imagetest.Tar(config), oci.ErrUsage, "no archive of docker save"},
		{"only repositories", imagetest.Tar(imagetest.File("repositories", "{}")), oci.ErrUsage, "docker load and docker save"},
		{"two manifest.json", imagetest.Tar(config, layers, entry("l", "l", "l"), entry("l", "l", "l")), oci.ErrInvalid, "2 times"},
		{"no JSON", imagetest.Tar(imagetest.File(ManifestFile, "[")), oci.ErrInvalid, ManifestFile},
		{"no image", imagetest.Tar(imagetest.File(ManifestFile, "[]")), oci.ErrInvalid, "no image"},
		{"no Config", imagetest.Tar(imagetest.File(ManifestFile, "[{}]")), oci.ErrInvalid, "no Config"},
		{"config missing", imagetest.Tar(layers, entry("l", "l", "l")), oci.ErrNotFound, "c.json"},
		{"layer missing", imagetest.Tar(config, entry("l", "l", "l")), oci.ErrNotFound, `"l"`},
		{"fewer layers than diff_ids", imagetest.Tar(config, layers, entry("l")), oci.ErrInvalid, "3 diff_ids, and manifest.json lists 1 layers"},
		{"config is no JSON", imagetest.Tar(imagetest.File("c.json", "x"), layers, entry("l")), oci.ErrInvalid, "c.json"},
		{"config without rootfs", imagetest.Tar(imagetest.File("c.json", "{}"), layers, entry("l")), oci.ErrInvalid, "no rootfs"},
		{"config outside", imagetest.Tar(manifest(Entry{Config: "../../etc/passwd"})), oci.ErrInvalid, "leads out"},
		{"host file", imagetest.Tar(manifest(Entry{Config: "/etc/passwd"})), oci.ErrNotFound, "etc/passwd"},
		{"link to a host file", imagetest.Tar(imagetest.Symlink("c.json", "/etc/passwd"), entry()), oci.ErrInvalid, "leads out"},
		{"link loop", imagetest.Tar(config, imagetest.Symlink("l", "m"), imagetest.Symlink("m", "l"), entry("l", "l", "l")), oci.ErrInvalid, "links"},
		{"a huge config", imagetest.Tar(imagetest.File("c.json", strings.Repeat(" ", maxConfig+1)), entry()), oci.ErrTooLarge, "c.json"},
		{"an xz layer", imagetest.Tar(config, imagetest.File("l", "\xfd7zXZ\x00 and more bytes"), entry("l", "l", "l")), oci.ErrUnsupported, "xz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := openFile(t, tt.raw)
			a, err := Read(f)
			if err == nil {
				_, _, err = a.Images[0].Resolve(t.Context(), "")
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), f.Path()) {
				t.Errorf("error %v, want %v with %q and the file's name", err, tt.want, tt.text)
			}
		})
	}
}

// TestDamagedLayers shows that a layer that isn't what its config says is found
// while it is read, and its archive named.
func TestDamagedLayers(t *testing.T) {
	flip := func(raw []byte) []byte {
		c := bytes.Clone(raw)
		c[600] ^= 1
		return c
	}
	cut := func(raw []byte) []byte { z := gzipped(raw); return z[:len(z)-20] }
	junk := func(raw []byte) []byte { return gzipped(flip(raw)) }
	for name, pack := range map[string]func([]byte) []byte{"a bit": flip, "gzip cut short": cut, "a bit in gzip": junk} {
		t.Run(name, func(t *testing.T) {
			a := readBytes(t, modern(pack, "a:1"))
			i := a.Images[0]
			d, raw, err := i.Resolve(t.Context(), "")
			if err == nil {
				var m *oci.Manifest
				if m, err = oci.ParseManifest(d.MediaType, raw); err == nil {
					_, err = fetch(t.Context(), i, m.Layers[0])
				}
			}
			if !errors.Is(err, oci.ErrDigestMismatch) && !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), a.Path()) {
				t.Errorf("error %v, want one that names the archive", err)
			}
		})
	}
	i := readBytes(t, imagetest.Tar(imagetest.File(strings.Repeat("a", 64)+".json", string(other.config.Bytes)), imagetest.File("b", string(base)), imagetest.File("o", string(other.layers[1])),
		manifest(Entry{Config: strings.Repeat("a", 64) + ".json", Layers: []string{"b", "o"}}))).Images[0]
	if !i.Renamed() {
		t.Error("a config under another digest isn't told")
	}
}

func TestFetchObeysContext(t *testing.T) {
	for _, pack := range []func([]byte) []byte{asIs, gzipped} {
		i := readBytes(t, modern(pack, "a:1")).Images[0]
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := fetch(ctx, i, oci.Descriptor{Digest: twice.ids[0], Size: -1}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that it was cancelled", err)
		}
		if _, err := fetch(t.Context(), i, oci.Descriptor{Digest: digest.FromString("other"), Size: -1}); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("another blob: %v", err)
		}
	}
}

func TestNormal(t *testing.T) {
	tests := []struct{ in, want string }{
		{"busybox", "docker.io/library/busybox:latest"},
		{"busybox:1", "docker.io/library/busybox:1"},
		{"kolla/a:1", "docker.io/kolla/a:1"},
		{"index.docker.io/busybox", "docker.io/library/busybox:latest"},
		{"quay.io/a/b", "quay.io/a/b:latest"},
		{"localhost/a:1", "localhost/a:1"},
	}
	for _, tt := range tests {
		ref, ok := parseTag(tt.in)
		if got := Normal(ref).String(); !ok || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.in, got, ok, tt.want)
		}
	}
}
