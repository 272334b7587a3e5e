package spool

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNothingIsLeft(t *testing.T) {
	for what, open := range map[string]func(dir, name string) (*os.File, error){"O_TMPFILE": New, "create and remove": named} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			f, err := open(dir, "a layer")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("bytes"); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("the folder has %v (%v), want nothing", entries, err)
			}
			got, err := io.ReadAll(io.NewSectionReader(f, 0, 10))
			if err != nil || string(got) != "bytes" {
				t.Errorf("read %q, %v", got, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrorsNameTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := New(dir, "a layer"); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want one that names %s", err, dir)
	}
	dir = t.TempDir()
	f, err := New(dir, "a layer")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := f.WriteString("x"); err == nil || !strings.Contains(err.Error(), "a layer (spooled in "+dir+")") {
		t.Errorf("error %v, want one that names the layer and %s", err, dir)
	}
}
