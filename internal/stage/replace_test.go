package stage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestReplace(t *testing.T) {
	t.Run("file without a name", func(t *testing.T) { testReplace(t, 0, Replace) })
	t.Run("file with a name", func(t *testing.T) {
		testReplace(t, 1, func(path string, was fs.FileInfo, write func(*os.File) error) error {
			return replace(path, was, write, func(string) (*os.File, error) { return nil, errors.ErrUnsupported })
		})
	})
}

func testReplace(t *testing.T, more int, Replace func(string, fs.FileInfo, func(*os.File) error) error) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	put := func(s string) func(*os.File) error {
		return func(f *os.File) error {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1+more {
				t.Errorf("while it is written the folder has %v, %v", entries, err)
			}
			_, err := f.WriteString(s)
			return err
		}
	}
	if err := Replace(path, nil, put("one")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := Replace(path, was, func(f *os.File) error { return errors.Join(put("half")(f), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the writer's error", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "one" {
		t.Errorf("after an error there is %q, %v", raw, err)
	}
	if err := Replace(path, nil, put("other")); !errors.Is(err, oci.ErrRefused) {
		t.Errorf("where somebody else made the file: %v, want refused", err)
	}
	if err := Replace(path, was, put("two")); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != was.Mode() {
		t.Errorf("permissions %v, %v, want those of before, %v", fi.Mode(), err, was.Mode())
	}
	if err := Replace(path, was, put("three")); !errors.Is(err, oci.ErrRefused) {
		t.Errorf("where somebody else replaced the file: %v, want refused", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "two" {
		t.Errorf("there is %q, %v, want two", raw, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v, want the file alone", entries, err)
	}
}

func TestExclusive(t *testing.T) {
	for _, name := range []string{"a.tar", strings.Repeat("n", 255)} {
		path := filepath.Join(t.TempDir(), "new", name)
		release, err := Exclusive(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Exclusive(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that it waited for the first", err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		// What a killed run has left.
		dir := filepath.Dir(path)
		if err := os.WriteFile(filepath.Join(dir, beside(path, ".new")), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if release, err = Exclusive(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, nil, func(*os.File) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the folder has %v, %v, want the file alone", entries, err)
		}
	}
}

func TestBehind(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("real"), 0o755), os.WriteFile(at("real/file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"dir": "real", "file": "dir/file", "none": "dir/none", "twice": "none", "loop": "loop", "abs": at("real/x")} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"real/file": "real/file", "dir/file": "real/file", "file": "real/file", "new": "new",
		"none": "real/none", "twice": "real/none", "abs": "real/x", "loop": "loop",
	} {
		if got := Behind(at(path)); got != at(want) {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}
