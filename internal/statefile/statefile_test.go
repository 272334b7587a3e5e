package statefile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quaymaster/quaymaster/internal/statefile"
	"github.com/quaymaster/quaymaster/oci"
)

func content(t *testing.T, path string, most int64) (string, error) {
	t.Helper()
	var raw []byte
	err := statefile.Read(path, most, func(r io.Reader) (err error) { raw, err = io.ReadAll(r); return err })
	return string(raw), err
}

func TestReadIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if got, err := content(t, path, 4); got != "" || err != nil {
		t.Errorf("no file: got %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := content(t, path, 4); got != "1234" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := content(t, path, 3); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("got %v, want too large", err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name    string
		changed bool
		read    error
		write   error
		want    string
	}{
		{"changed", true, nil, nil, "new"},
		{"not changed", false, nil, nil, "old"},
		{"not read", true, broken, nil, "old"},
		{"not written", true, nil, broken, "old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
				t.Fatal(err)
			}
			err := statefile.Update(t.Context(), path, 10, func(io.Reader) (bool, error) { return tt.changed, tt.read }, func(w io.Writer) error {
				_, err := io.WriteString(w, "new")
				return errors.Join(err, tt.write)
			})
			if fails := tt.read != nil || tt.write != nil; fails != errors.Is(err, broken) || !fails && err != nil {
				t.Errorf("got %v", err)
			}
			if got, err := content(t, path, 10); got != tt.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if f.Name() != "x" && f.Name() != "x.lock" {
					t.Errorf("%s was left behind", f.Name())
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("the file's mode is %v, %v", info.Mode(), err)
			}
		})
	}
}
