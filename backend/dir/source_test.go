package dir_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func openSource(t *testing.T, uri string, warn func(string)) (backend.Images, error) {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	images, err := dir.Kind.Source(t.Context(), u, backend.Env{Warn: warn})
	if err == nil {
		t.Cleanup(func() {
			if err := images.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return images, err
}

// written makes a folder of images by name.
func written(t *testing.T, option string, images map[string]imagetest.Image) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "d")
	target := open(t, "dir://"+folder+option, nil)
	for name, img := range images {
		if err := put(t.Context(), target, ref(t, name), img, img.Desc); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	return folder
}

// occystrap turns a folder of ours into one that occystrap would have written:
// configs in its form, no key of ours.
func occystrap(t *testing.T, folder string) {
	t.Helper()
	for _, name := range ls(t, folder) {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		raw := read(t, folder, name)
		var v any
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			t.Fatal(err)
		}
		if list, ok := v.([]any); ok {
			delete(list[0].(map[string]any), "Source")
		}
		indented, err := json.MarshalIndent(v, "", "    ")
		if err != nil {
			t.Fatal(err)
		}
		write(t, string(indented), folder, name)
	}
}

func write(t *testing.T, text string, elem ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elem...), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, images backend.Images) []string {
	t.Helper()
	var all []string
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item.Ref.String())
	}
	return all
}

// sourceOf opens the image called name, "" for the only one.
func sourceOf(t *testing.T, images backend.Images, name string) oci.Source {
	t.Helper()
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if name == "" || item.Ref.String() == name {
			src, err := images.Source(t.Context(), item)
			if err != nil {
				t.Fatal(err)
			}
			return src
		}
	}
	t.Fatalf("no image %q", name)
	return nil
}

func fetch(ctx context.Context, src oci.Source, d oci.Descriptor) ([]byte, error) {
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(rc)
	return b, errors.Join(err, rc.Close())
}

// same compares the image that src gives with img, whose config bytes count
// only if exact.
func same(t *testing.T, src oci.Source, img imagetest.Image, exact bool) {
	t.Helper()
	d, raw, err := src.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var got, want ocispec.Manifest
	if err := errors.Join(json.Unmarshal(raw, &got), json.Unmarshal(img.Raw, &want)); err != nil {
		t.Fatal(err)
	}
	if d.Annotations[oci.AnnotationSynthetic] != "true" || d.Digest != digest.FromBytes(raw) || exact && got.Config.Digest != want.Config.Digest || len(got.Layers) != len(want.Layers) {
		t.Fatalf("got %+v\n%s", d, raw)
	}
	config, err := fetch(t.Context(), src, got.Config)
	if err != nil || exact && !bytes.Equal(config, img.Blobs[want.Config.Digest]) {
		t.Errorf("config: %v, %s", err, config)
	}
	for i, l := range want.Layers {
		tar, err := inflate(img.Blobs[l.Digest])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := fetch(t.Context(), src, got.Layers[i]); err != nil || !bytes.Equal(b, tar) {
			t.Errorf("layer %d: %d of %d bytes, %v", i, len(b), len(tar), err)
		}
	}
}

func TestReadsOurs(t *testing.T) {
	byDigest := "h.example/by/digest@" + string(other.Desc.Digest)
	all := map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first, "h.example:5000/a/b:v1": other, byDigest: other}
	folder := written(t, "?unique_names=true", all)
	images, err := openSource(t, "dir://"+folder, func(s string) { t.Error(s) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"h.example/by/digest@" + string(other.Desc.Digest), "h.example:5000/a/b:v1", "quay.io/kolla/nova-api:2025.1"}
	if got := listed(t, images); !images.Bulk() || !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for name, img := range all {
		same(t, sourceOf(t, images, name), img, true)
	}
	for _, name := range []string{"quay.io/kolla/nova-api:2025.1", "kolla/nova-api:2025.1", "2025.1"} {
		one, err := openSource(t, "dir://"+folder+":"+name, nil)
		if err != nil || one.Bulk() {
			t.Fatal(err, one.Bulk())
		}
		same(t, sourceOf(t, one, "quay.io/kolla/nova-api:2025.1"), first, true)
	}
	one, err := openSource(t, "dir://"+folder+":nosuch", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range one.Discover(t.Context()) {
		if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), folder) {
			t.Errorf("a name that isn't there: %v", err)
		}
	}
	// A name within: what list and check ask for.
	src := sourceOf(t, images, want[1])
	if _, raw, err := src.Resolve(t.Context(), "quay.io/kolla/nova-api:2025.1"); err != nil || !bytes.Contains(raw, []byte(config(first).Digest)) {
		t.Errorf("another image's name: %v, %s", err, raw)
	}
	if _, _, err := src.Resolve(t.Context(), string(first.Desc.Digest)); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a digest that isn't there: %v", err)
	}
}

func TestReadsOccystraps(t *testing.T) {
	folder := written(t, "?unique_names=true", map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first, "quay.io/a/b:v1": other})
	occystrap(t, folder)
	// Layers of a registry are named by the digest of the compressed blob, those
	// of an old daemon by v1 ids; configs of a newer one lie among blobs.
	hexOf := func(l imagetest.Layer) string { return l.Desc.Digest.Encoded() }
	name := "manifest-kolla_nova-api-2025.1.json"
	m := read(t, folder, name)
	for _, l := range []imagetest.Layer{base, top} {
		m = strings.ReplaceAll(m, l.DiffID.Encoded(), hexOf(l))
		tar, err := inflate(l.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(folder, hexOf(l)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, string(tar), folder, hexOf(l), "layer.tar")
	}
	hex := config(first).Digest.Encoded()
	m = strings.ReplaceAll(m, hex+".json", "blobs/sha256/"+hex)
	write(t, m, folder, name)
	if err := errors.Join(os.MkdirAll(filepath.Join(folder, "blobs/sha256"), 0o755),
		os.Rename(filepath.Join(folder, hex+".json"), filepath.Join(folder, "blobs/sha256", hex))); err != nil {
		t.Fatal(err)
	}
	var warned []string
	images, err := openSource(t, "dir://"+folder, func(s string) { warned = append(warned, s) })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, images), []string{"a/b:v1", "kolla/nova-api:2025.1"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	same(t, sourceOf(t, images, "kolla/nova-api:2025.1"), first, false)
	same(t, sourceOf(t, images, "a/b:v1"), other, false)
	if len(warned) != 1 || !strings.Contains(warned[0], "image IDs differ") {
		t.Errorf("warned %q", warned)
	}
}

// In occystrap's plain mode the catalog goes on naming images whose manifest
// has been overwritten.
func TestPlainModeKeepsTheLast(t *testing.T) {
	folder := written(t, "", map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first})
	occystrap(t, folder)
	write(t, `{"a/gone":{"1":"manifest.json"},"kolla/nova-api":{"2025.1":"manifest.json"},"x":{"y":7},"images":[]}`, folder, "catalog.json")
	var warned []string
	images, err := openSource(t, "dir://"+folder, func(s string) { warned = append(warned, s) })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, images), []string{"kolla/nova-api:2025.1"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], `"a/gone:1"`) {
		t.Errorf("warned %q", warned)
	}

	// Two names that manifest.json can't tell apart.
	write(t, `{"other/nova-api":{"2025.1":"manifest.json"},"kolla/nova-api":{"2025.1":"manifest.json"}}`, folder, "catalog.json")
	if images, err = openSource(t, "dir://"+folder, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sourceOf(t, images, "kolla/nova-api:2025.1").Resolve(t.Context(), ""); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "can't be told") {
		t.Errorf("ambiguous: %v", err)
	}
}

func TestReadsWithoutCatalog(t *testing.T) {
	plain := written(t, "", map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first})
	unique := written(t, "?unique_names=true", map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first, "quay.io/a/b:v1": other})
	nameless := written(t, "", map[string]imagetest.Image{"quay.io/kolla/nova-api:2025.1": first})
	occystrap(t, unique)
	occystrap(t, nameless)
	write(t, strings.Replace(read(t, nameless, "manifest.json"), `"nova-api:2025.1"`, "", 1), nameless, "manifest.json")
	tests := []struct {
		folder string
		want   []string
	}{
		{plain, []string{"quay.io/kolla/nova-api:2025.1"}},
		{unique, []string{"a/b:v1", "kolla/nova-api:2025.1"}},
		{nameless, nil},
	}
	for _, tt := range tests {
		if err := os.Remove(filepath.Join(tt.folder, "catalog.json")); err != nil {
			t.Fatal(err)
		}
		images, err := openSource(t, "dir://"+tt.folder, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := listed(t, images)
		if tt.want == nil { // by the digest of what was made up
			d, _, err := sourceOf(t, images, "").Resolve(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			tt.want = []string{string(d.Digest)}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("listed %q, want %q", got, tt.want)
		}
	}
}

func TestReadsCompressedLayers(t *testing.T) {
	folder := written(t, "", map[string]imagetest.Image{"quay.io/a/b:1": first})
	occystrap(t, folder)
	write(t, string(top.Bytes), folder, top.DiffID.Encoded(), "layer.tar")
	images, err := openSource(t, "dir://"+folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Its size is found by reading it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := sourceOf(t, images, "").Resolve(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	same(t, sourceOf(t, images, ""), first, false)
}

func TestReadingSaysWhichFileIsBad(t *testing.T) {
	config, layerFile := config(first).Digest.Encoded()+".json", top.DiffID.Encoded()+"/layer.tar"
	flip := func(folder, name string) {
		raw := []byte(read(t, folder, name))
		raw[len(raw)/2] ^= 1
		write(t, string(raw), folder, name)
	}
	edit := func(name, old, text string) func(string) {
		return func(folder string) {
			write(t, strings.ReplaceAll(read(t, folder, name), old, text), folder, name)
		}
	}
	link := func(name, to string) func(string) {
		return func(folder string) {
			if err := errors.Join(os.Remove(filepath.Join(folder, name)), os.Symlink(to, filepath.Join(folder, name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, "secret", outside)
	tests := []struct {
		name string
		harm func(folder string)
		file string
		want error
	}{
		{"flipped byte in the config", func(f string) { flip(f, config) }, config, oci.ErrDigestMismatch},
		{"flipped byte in a layer", func(f string) { flip(f, layerFile) }, layerFile, oci.ErrDigestMismatch},
		{"longer layer", func(f string) { write(t, read(t, f, layerFile)+"x", f, layerFile) }, layerFile, oci.ErrDigestMismatch},
		{"no config", func(f string) { os.Remove(filepath.Join(f, config)) }, config, oci.ErrNotFound},
		{"no layer", func(f string) { os.Remove(filepath.Join(f, layerFile)) }, layerFile, oci.ErrNotFound},
		{"no manifest", func(f string) { os.Remove(filepath.Join(f, "manifest.json")) }, "manifest.json", oci.ErrNotFound},
		{"cut manifest", func(f string) { write(t, "[{", f, "manifest.json") }, "manifest.json", oci.ErrInvalid},
		{"empty list", func(f string) { write(t, "[]", f, "manifest.json") }, "manifest.json", oci.ErrInvalid},
		{"a layer less", edit("manifest.json", `"`+base.DiffID.Encoded()+`/layer.tar",`, ""), "manifest.json", oci.ErrInvalid},
		{"climbing layer", edit("manifest.json", layerFile, "../../etc/passwd"), "../../etc/passwd", oci.ErrInvalid},
		{"absolute layer", edit("manifest.json", layerFile, outside), outside, oci.ErrInvalid},
		{"climbing config", edit("manifest.json", config, "../"+config), "../" + config, oci.ErrInvalid},
		{"linked layer", link(layerFile, outside), layerFile, nil},
		{"linked config", link(config, outside), config, nil},
		{"folder for a layer", func(f string) {
			os.Remove(filepath.Join(f, layerFile))
			os.Mkdir(filepath.Join(f, layerFile), 0o755)
		}, layerFile, oci.ErrInvalid},
		{"manifest elsewhere", edit("catalog.json", "manifest.json", "../manifest.json"), "../manifest.json", oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := written(t, "", map[string]imagetest.Image{"quay.io/a/b:1": first})
			tt.harm(folder)
			images, err := openSource(t, "dir://"+folder, nil)
			if err != nil {
				t.Fatal(err)
			}
			src := sourceOf(t, images, "")
			_, raw, err := src.Resolve(t.Context(), "1")
			if err == nil {
				var m ocispec.Manifest
				if err := json.Unmarshal(raw, &m); err != nil {
					t.Fatal(err)
				}
				for _, l := range m.Layers {
					_, e := fetch(t.Context(), src, l)
					err = errors.Join(err, e)
				}
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.file) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %v that names %s", err, tt.want, tt.file)
			}
		})
	}
}

func TestWhatIsNoFolderOfImages(t *testing.T) {
	empty, broken, bad := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, "{", broken, "catalog.json")
	write(t, "x", bad, "manifest-x.json")
	file := filepath.Join(empty, "file")
	write(t, "", file)
	for path, want := range map[string]error{empty: oci.ErrUsage, file: oci.ErrUsage, empty + "/nosuch": oci.ErrNotFound, broken: oci.ErrInvalid} {
		if _, err := openSource(t, "dir://"+path, nil); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	images, err := openSource(t, "dir://"+bad, nil)
	if err != nil {
		t.Fatal(err)
	}
	for item, err := range images.Discover(t.Context()) {
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "manifest-x.json") {
			t.Errorf("a broken manifest: %+v, %v", item, err)
		}
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	folder := written(t, "", map[string]imagetest.Image{"quay.io/a/b:1": first})
	images, err := openSource(t, "dir://"+folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := sourceOf(t, images, "").Fetch(ctx, oci.Descriptor{Digest: top.DiffID, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	cancel()
	if _, err := io.ReadAll(rc); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What the catalog calls an image is hostile: it never becomes a name that it
// isn't.
func TestNamesThatAreNone(t *testing.T) {
	folder := written(t, "", map[string]imagetest.Image{"quay.io/a/b:1": first})
	for _, name := range []string{"../../etc", "a b", "UPPER/x", "", "--help", "a\nb", "/a"} {
		image, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		tags, err := json.Marshal(name + ":1")
		if err != nil {
			t.Fatal(err)
		}
		write(t, `{`+string(image)+`:{"1":"manifest.json"}}`, folder, "catalog.json")
		m := read(t, folder, "manifest.json")
		var list []map[string]any
		if err := json.Unmarshal([]byte(m), &list); err != nil {
			t.Fatal(err)
		}
		delete(list[0], "Source")
		list[0]["RepoTags"] = []string{name[strings.LastIndexByte(name, '/')+1:] + ":1"}
		if name == "" {
			list[0]["RepoTags"] = []string{".:1"} // as occystrap's path.basename wouldn't
		}
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		write(t, string(raw), folder, "manifest.json")
		var warned []string
		images, err := openSource(t, "dir://"+folder, func(s string) { warned = append(warned, s) })
		if err != nil {
			t.Fatal(err)
		}
		for item, err := range images.Discover(t.Context()) {
			if err != nil || item.Ref.Repository != "" || oci.ValidDigest(item.Ref.Digest) != nil {
				t.Errorf("%s: %+v, %v", tags, item.Ref, err)
			}
		}
		if len(warned) != 1 || strings.Contains(warned[0], "\n") {
			t.Errorf("%s: warned %q", tags, warned)
		}
	}
}
