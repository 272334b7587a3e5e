package stage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	put := func(s string) func(*os.File) error {
		return func(f *os.File) error {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1 {
				t.Errorf("while it is written the folder has %v, %v", entries, err)
			}
			_, err := f.WriteString(s)
			return err
		}
	}
	if err := Replace(path, nil, put("one")); err != nil {
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
