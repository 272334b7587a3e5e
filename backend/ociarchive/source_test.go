package ociarchive_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ociarchive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func TestReadsCompressedArchivesAndPipes(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a.tar", all)
	plain := read(t, dir+"/a.tar")
	compress := func(name string, to func(io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := to(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), os.WriteFile(dir+"/"+name, b.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	compress("a.tar.gz", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	compress("a.tar.zst", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(dir+"/pipe", plain, 0) }()
	for _, name := range []string{"a.tar.gz", "a.tar.zst", "pipe"} {
		src := openSource(t, "oci-archive://"+dir+"/"+name, nil)
		for ref, img := range all {
			readBack(t, sourceOf(t, src, ref), "", img)
		}
	}
}

// open opens a source and reads all of it: the first error.
func readAll(t *testing.T, path string) error {
	t.Helper()
	u, err := backend.ParseURI("oci-archive://" + path)
	if err != nil {
		t.Fatal(err)
	}
	images, err := ociarchive.Kind.Source(t.Context(), u, backend.Env{})
	if err != nil {
		return err
	}
	defer images.Close()
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			return err
		}
		src, err := images.Source(t.Context(), item)
		if err != nil {
			return err
		}
		d, raw, err := src.Resolve(t.Context(), "")
		if err != nil {
			return err
		}
		m, err := oci.ParseManifest(d.MediaType, raw)
		if err != nil {
			return err
		}
		for _, b := range m.Blobs() {
			rc, err := src.Fetch(t.Context(), b)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, rc)
			if err := errors.Join(err, rc.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestDamageNamesTheArchive(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	save(t, path, map[string]imagetest.Image{"h.x/a:1": first})
	whole := read(t, path)
	if err := readAll(t, path); err != nil {
		t.Fatal(err)
	}
	check := func(what string, raw []byte) {
		t.Helper()
		bad := filepath.Join(dir, "bad.tar")
		if err := os.WriteFile(bad, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, bad); err == nil || !strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, b := range first.Blobs {
		at := bytes.Index(whole, b)
		flipped := bytes.Clone(whole)
		flipped[at+len(b)/2] ^= 1
		check("a flipped byte of a blob", flipped)
		check("cut within a blob", whole[:at+len(b)/2])
	}
	for _, n := range []int{100, 512, 600, 2000} {
		check("cut short", whole[:n])
	}
	check("empty", nil)
	marker := imagetest.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	index := string(whole[1536 : 1536+bytes.IndexByte(whole[1536:], 0)])
	check("no marker", imagetest.Tar(imagetest.File("index.json", index)))
	check("docker's", imagetest.Tar(imagetest.File("manifest.json", "[]")))
	check("another version", imagetest.Tar(imagetest.File("oci-layout", `{"imageLayoutVersion":"9"}`)))
	check("no index", imagetest.Tar(marker))
	check("broken index", imagetest.Tar(marker, imagetest.File("index.json", "{")))
	check("two indexes", imagetest.Tar(marker, imagetest.File("index.json", index), imagetest.File("./index.json", index)))
	check("no blobs", imagetest.Tar(marker, imagetest.File("index.json", index)))
	name := "blobs/sha256/" + first.Desc.Digest.Encoded()
	check("a link out of the archive", imagetest.Tar(marker, imagetest.File("index.json", index), imagetest.Symlink(name, "/etc/passwd")))
	check("a climbing link", imagetest.Tar(marker, imagetest.File("index.json", index), imagetest.Symlink(name, "../../../etc/passwd")))
	if err := readAll(t, filepath.Join(dir, "nosuch")); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	if err := readAll(t, dir); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("a folder: %v", err)
	}
}
