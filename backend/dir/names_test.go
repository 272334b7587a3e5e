package dir_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestNamesThatCollide: occystrap writes all of them to two files, and loses two images.
func TestNamesThatCollide(t *testing.T) {
	folder := t.TempDir()
	target := open(t, "dir://"+folder+"?unique_names=true", nil)
	names := []string{"h.x/a/b:c", "h.x/a_b:c", "h.x/a-b:c", "h.x/a:b-c", "h.x/a:B-c", "h.x/" + strings.Repeat("a/", 120) + "a:" + strings.Repeat("t", 100)}
	for i, name := range names {
		img := imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(i), 10))
		if err := put(t.Context(), target, ref(t, name), img, img.Desc); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for i, name := range names {
		dst, err := target.Image(t.Context(), ref(t, name))
		if err != nil {
			t.Fatal(err)
		}
		img := imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(i), 10))
		if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != img.Desc.Digest {
			t.Errorf("%s is %s, %v, want %s", name, d.Digest, err, img.Desc.Digest)
		}
	}
	for _, f := range ls(t, folder) {
		if strings.HasPrefix(f, "manifest") {
			seen[strings.ToLower(f)] = true
		}
	}
	if len(seen) != len(names) {
		t.Errorf("%d manifest files of %d images: %v", len(seen), len(names), seen)
	}
}

func TestAnotherRegistryIsRefused(t *testing.T) {
	folder := t.TempDir()
	target := open(t, "dir://"+folder+"?unique_names=true", nil)
	if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	mirror := nova
	mirror.Registry = "mirror.example"
	err := put(t.Context(), target, mirror, other, other.Desc)
	if !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), nova.String()) || !strings.Contains(err.Error(), mirror.String()) {
		t.Errorf("got %v, want a refusal that names both", err)
	}
	if err := put(t.Context(), target, nova, other, other.Desc); err != nil {
		t.Errorf("a tag that moved: %v", err)
	}
}

// TestPlainHoldsOne: the next image takes manifest.json, the user is told, and
// the catalog doesn't lie about the last one.
func TestPlainHoldsOne(t *testing.T) {
	folder := t.TempDir()
	var warned []string
	target := open(t, "dir://"+folder, func(s string) { warned = append(warned, s) })
	if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), target, nova, other, other.Desc); err != nil || len(warned) > 0 {
		t.Fatalf("a tag that moved: %v, warned %q", err, warned)
	}
	if err := put(t.Context(), target, ref(t, "h.x/a:1"), first, first.Desc); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], nova.String()) || !strings.Contains(warned[0], "h.x/a:1") {
		t.Errorf("warned %q, want one line with both names", warned)
	}
	if got, want := read(t, folder, "catalog.json"), "{\n    \"a\": {\n        \"1\": \"manifest.json\"\n    }\n}"; got != want {
		t.Errorf("catalog.json is\n%s\nwant\n%s", got, want)
	}
}

func TestUseUniqueNames(t *testing.T) {
	folder := t.TempDir()
	target := open(t, "dir://"+folder, nil)
	u, ok := target.(interface{ UseUniqueNames() bool })
	if !ok || !u.UseUniqueNames() || u.UseUniqueNames() {
		t.Fatalf("%T can't be told to use unique names, or doesn't say that this is new", target)
	}
	for _, name := range []string{"h.x/a:1", "h.x/b:1", "h.x/b@" + string(first.Desc.Digest)} {
		if err := put(t.Context(), target, ref(t, name), first, first.Desc); err != nil {
			t.Fatal(err)
		}
	}
	hex := first.Desc.Digest.Encoded()
	want := []string{"catalog.json", "manifest-a-1.json", "manifest-b-1.json", "manifest-b-" + hex + ".json"}
	if got := slices.DeleteFunc(ls(t, folder), func(s string) bool { return s[0] != 'm' && s != "catalog.json" }); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForeignContent: a folder that another program has written to, with a
// layer that it left half done.
func TestForeignContent(t *testing.T) {
	folder := t.TempDir()
	files := map[string]string{
		"catalog.json":                        `{"kolla/x": {"1": "manifest-kolla_x-1.json"}, "kolla/nova-api": {"old": "manifest-kolla_nova-api-old.json"}}`,
		"manifest-kolla_x-1.json":             `[{"Config": "0.json", "ImageName": "kolla/x", "Layers": ["` + base.DiffID.Encoded() + `/layer.tar"], "RepoTags": ["x:1"]}]`,
		"manifest-kolla_nova-api-2025.1.json": `[{"Config": "0.json", "ImageName": "somebody/else", "Layers": [], "RepoTags": ["else:1"]}]`,
		base.DiffID.Encoded() + "/layer.tar":  "half a ta",
		"0123456789abcdef/layer.tar":          "named by its compressed digest",
	}
	for name, body := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := inflate(top.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(folder, top.DiffID.Encoded(), "layer.tar")
	if err := errors.Join(os.Mkdir(filepath.Dir(whole), 0o755), os.WriteFile(whole, raw, 0o644)); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(whole)
	if err != nil {
		t.Fatal(err)
	}

	target := open(t, "dir://"+folder+"?unique_names=true", nil)
	if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(whole); err != nil || !os.SameFile(before, after) {
		t.Errorf("a whole layer was written again, %v", err)
	}
	dst, err := target.Image(t.Context(), nova)
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), first.Desc, true); err != nil {
		t.Errorf("the half layer was taken for whole: %v", err)
	}
	for _, name := range []string{"manifest-kolla_x-1.json", "manifest-kolla_nova-api-2025.1.json", "0123456789abcdef/layer.tar"} {
		if got := read(t, folder, name); got != files[name] {
			t.Errorf("%s was changed to %q", name, got)
		}
	}
	var catalog map[string]map[string]string
	if err := json.Unmarshal([]byte(read(t, folder, "catalog.json")), &catalog); err != nil {
		t.Fatal(err)
	}
	if catalog["kolla/x"]["1"] == "" || catalog["kolla/nova-api"]["old"] == "" || !strings.HasPrefix(catalog["kolla/nova-api"]["2025.1"], "manifest-kolla_nova-api-2025.1-") {
		t.Errorf("the catalog is %v", catalog)
	}
}

// TestCatalogWithPaths: a catalog that somebody made to have files outside of
// the folder read or written.
func TestCatalogWithPaths(t *testing.T) {
	parent := t.TempDir()
	folder := filepath.Join(parent, "out")
	outside := filepath.Join(parent, "manifest.json")
	const body = `[{"Config": "x.json", "Layers": [], "RepoTags": ["nova-api:2025.1"]}]`
	err := errors.Join(os.Mkdir(folder, 0o755), os.WriteFile(outside, []byte(body), 0o644),
		os.WriteFile(filepath.Join(folder, "catalog.json"), []byte(`{"kolla/nova-api": {"2025.1": "../manifest.json"}}`), 0o644),
		os.Symlink(outside, filepath.Join(folder, "manifest-kolla_nova-api-2025.1.json")))
	if err != nil {
		t.Fatal(err)
	}
	target := open(t, "dir://"+folder+"?unique_names=true", nil)
	dst, err := target.Image(t.Context(), nova)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if err := put(t.Context(), target, nova, first, first.Desc); err != nil {
		t.Fatal(err)
	}
	if got := read(t, outside); got != body {
		t.Errorf("a file outside was changed to %s", got)
	}
	if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != first.Desc.Digest {
		t.Errorf("after a run: %+v, %v", d, err)
	}
}
