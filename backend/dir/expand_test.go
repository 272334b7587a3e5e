package dir_test

import (
	"archive/tar"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// files lists all that is below dir, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	list := []string{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, name); rel != "." {
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// writeExpanded writes img to uri as a run does, and reports whether the run would have
// skipped it.
func writeExpanded(t *testing.T, uri string, img imagetest.Image) (skipped bool, err error) {
	t.Helper()
	target := open(t, uri, nil)
	name := ref(t, "quay.io/org/app:v1")
	d, err := target.Image(t.Context(), name)
	if err != nil {
		return false, err
	}
	head, err := d.Head(t.Context(), "")
	if err == nil && head.Digest == img.Desc.Digest {
		return true, d.Verify(t.Context(), head, true)
	}
	if err := put(t.Context(), target, name, img, oci.Descriptor{Digest: img.Desc.Digest}); err != nil {
		return false, err
	}
	return false, target.Finish(context.WithoutCancel(t.Context()))
}

func TestExpand(t *testing.T) {
	base := imagetest.Entries(imagetest.File("keep", "1"), imagetest.File("gone", "2"), imagetest.File("d/low", "3"), imagetest.File("a/b/x", "4"), imagetest.File("a/bc/y", "5"), imagetest.File(".hidden", "6"), imagetest.File("r/f/g", ""))
	one := imagetest.New(imagetest.Linux, nil, base, imagetest.Entries(imagetest.File(".wh.gone", ""), imagetest.Dir("d"), imagetest.File("d/.wh..wh..opq", ""), imagetest.File("d/high", "7"), imagetest.File("a/.wh.b", ""), imagetest.File(".wh.never", ""), imagetest.Symlink("r", "/etc")))
	two := imagetest.New(imagetest.Linux, nil, base)
	tests := []struct {
		uri, folder string
	}{
		{"dir://%?expand=true", "manifest"},
		{"dir://%?expand=true&unique_names=true", "manifest-org_app-v1"},
	}
	for _, tt := range tests {
		t.Run(tt.folder, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			uri := strings.ReplaceAll(tt.uri, "%", path)
			at := filepath.Join(path, tt.folder)
			check := func(what string, want []string) {
				t.Helper()
				if got := files(t, at); !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", what, got, want)
				}
				entries, err := os.ReadDir(path)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if strings.HasPrefix(e.Name(), ".manifest") {
						t.Errorf("%s: left %s", what, e.Name())
					}
				}
			}
			wantOne := []string{".hidden", "a", "a/bc", "a/bc/y", "d", "d/high", "keep", "r"}
			wantTwo := []string{".hidden", "a", "a/b", "a/b/x", "a/bc", "a/bc/y", "d", "d/low", "gone", "keep", "r", "r/f", "r/f/g"}

			if skipped, err := writeExpanded(t, strings.Replace(uri, "expand=true", "expand=false", 1), one); skipped || err != nil {
				t.Fatal(skipped, err)
			}
			if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("expanded though nobody asked: %v", err)
			}
			if skipped, err := writeExpanded(t, uri, one); skipped || err != nil {
				t.Fatalf("of an image that is there: skipped %v, %v", skipped, err)
			}
			check("first", wantOne)
			if skipped, err := writeExpanded(t, uri, one); !skipped || err != nil {
				t.Fatalf("second run: skipped %v, %v", skipped, err)
			}
			if skipped, err := writeExpanded(t, uri, two); skipped || err != nil {
				t.Fatalf("another image: skipped %v, %v", skipped, err)
			}
			check("another image", wantTwo)
			if err := os.Remove(at + "/keep"); err != nil {
				t.Fatal(err)
			}
			if _, err := writeExpanded(t, uri, two); !errors.Is(err, oci.ErrDigestMismatch) {
				t.Errorf("verify with a file less: got %v", err)
			}
			if err := os.RemoveAll(at); err != nil {
				t.Fatal(err)
			}
			if skipped, err := writeExpanded(t, uri, two); skipped || err != nil {
				t.Fatalf("an expansion that is gone: skipped %v, %v", skipped, err)
			}
			check("made again", wantTwo)
			if err := errors.Join(os.Remove(at+".expanded"), os.WriteFile(at+"/mine", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			if _, err := writeExpanded(t, uri, two); !errors.Is(err, oci.ErrRefused) {
				t.Errorf("a folder that isn't ours: got %v", err)
			}
			if _, err := os.Lstat(at + "/mine"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExpandKilled: a run that dies while the expansion changes leaves one that the
// next run replaces.
func TestExpandKilled(t *testing.T) {
	path := t.TempDir()
	img := imagetest.New(imagetest.Linux, nil, imagetest.Entries(imagetest.File("a", "1")))
	uri := "dir://" + path + "?expand=true"
	if _, err := writeExpanded(t, uri, img); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(
		os.WriteFile(path+"/manifest.expanded", []byte(`{"config": "x", "whole": false}`), 0o644),
		os.WriteFile(path+"/manifest/other", nil, 0o644),
		os.MkdirAll(path+"/.manifest.quaymaster-dead/new/half", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	if skipped, err := writeExpanded(t, uri, img); skipped || err != nil {
		t.Fatal(skipped, err)
	}
	if got := files(t, path+"/manifest"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	if _, err := os.Lstat(path + "/.manifest.quaymaster-dead"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestExpansionIsOnesOwn: others on the machine run nothing of it, whatever the image
// says of its root.
func TestExpansionIsOnesOwn(t *testing.T) {
	img := imagetest.New(imagetest.Linux, nil, imagetest.Entries(
		imagetest.Entry{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o777}}, imagetest.Entry{Header: tar.Header{Name: "su", Mode: 0o4755}}))
	path := filepath.Join(t.TempDir(), "f")
	if _, err := writeExpanded(t, "dir://"+path+"?expand=true", img); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(path, "manifest"))
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	if fi, err = os.Stat(filepath.Join(path, "manifest", "su")); err != nil || fi.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
}
