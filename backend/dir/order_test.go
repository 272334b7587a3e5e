package dir_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestSameInputSameOutput writes images whose manifest files would have one
// name, in every order: the folder holds the same bytes.
func TestSameInputSameOutput(t *testing.T) {
	names := []string{"h.x/a/b:c", "h.x/a_b:c", "h.x/a/b:C"}
	var want map[string]string
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {0, 2, 1}} {
		folder := t.TempDir()
		target := open(t, "dir://"+folder+"?unique_names=true", nil)
		var last oci.Destination
		for _, i := range order {
			img := imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(i), 10))
			if err := put(t.Context(), target, ref(t, names[i]), img, img.Desc); err != nil {
				t.Fatal(err)
			}
			if last != nil { // it may have had to make room
				if d, err := last.Head(t.Context(), ""); err != nil || last.Verify(t.Context(), d, true) != nil {
					t.Errorf("the image before %s: %v, %v", names[i], err, last.Verify(t.Context(), d, true))
				}
			}
			var err error
			if last, err = target.Image(t.Context(), ref(t, names[i])); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]string{}
		for _, name := range ls(t, folder) {
			if strings.HasPrefix(name, "manifest") || name == "catalog.json" {
				got[name] = read(t, folder, name)
			}
		}
		if want == nil {
			want = got
		}
		if !maps.Equal(got, want) {
			t.Errorf("order %v: %q and %s\nwant %q and %s", order, slices.Sorted(maps.Keys(got)), got["catalog.json"], slices.Sorted(maps.Keys(want)), want["catalog.json"])
		}
	}
}

// TestVerifyAfterMakingRoom: an image that was committed, and then lost its file
// name to another, is still what was committed.
func TestVerifyAfterMakingRoom(t *testing.T) {
	target := open(t, "dir://"+t.TempDir()+"?unique_names=true", nil)
	late := imagetest.New(imagetest.Linux, nil, base)
	dst, err := target.Image(t.Context(), ref(t, "h.x/a_b:c"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := inflate(base.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c := config(late)
	_, err = dst.PutBlob(t.Context(), blob(c, -1, late.Blobs[c.Digest]))
	if err == nil {
		_, err = dst.PutBlob(t.Context(), blob(oci.Descriptor{Digest: base.DiffID, Size: -1}, 0, raw))
	}
	if err == nil {
		err = dst.Commit(t.Context(), late.Desc, late.Desc)
	}
	if err == nil {
		err = put(t.Context(), target, ref(t, "h.x/a/b:c"), first, first.Desc)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), late.Desc, true); err != nil {
		t.Error(err)
	}
	if err := put(t.Context(), target, ref(t, "h.x/a_b:c"), other, other.Desc); err != nil {
		t.Fatal(err)
	}
	if err := dst.Verify(t.Context(), late.Desc, false); !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("another image by now: got %v, want a mismatch", err)
	}
}

// TestSomebodysManifest: manifest.json is also what browsers call theirs.
func TestSomebodysManifest(t *testing.T) {
	folder := t.TempDir()
	const theirs = `{"name": "my app", "icons": []}`
	if err := os.WriteFile(filepath.Join(folder, "manifest.json"), []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, "dir://"+folder, nil).Image(t.Context(), nova)
	if !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), "manifest.json") {
		t.Errorf("got %v, want a refusal that names the file", err)
	}
	if err := put(t.Context(), open(t, "dir://"+folder+"?unique_names=true", nil), nova, first, first.Desc); err != nil {
		t.Errorf("unique_names=true needs no manifest.json: %v", err)
	}
	if got := read(t, folder, "manifest.json"); got != theirs {
		t.Errorf("it was changed to %s", got)
	}
}
