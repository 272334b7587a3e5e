package tarfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func write(t *testing.T, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openBytes(t *testing.T, raw []byte) *File {
	t.Helper()
	a, err := Open(t.Context(), write(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func gzipped(raw []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(raw)
	w.Close()
	return b.Bytes()
}

func zstded(t *testing.T, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(raw, nil)
}

var sample = imagetest.Tar(
	imagetest.File("./manifest.json", "[]"),
	imagetest.Dir("a/"),
	imagetest.File("a/layer.tar", "one"),
	imagetest.Dir("b/"),
	imagetest.Symlink("b/layer.tar", "../a/layer.tar"),
	imagetest.Hardlink("c/layer.tar", "b/layer.tar"),
	imagetest.File("twice", "old"),
	imagetest.File("/absolute", "abs"),
	imagetest.File("twice", "newer"),
	imagetest.File(strings.Repeat("long/", 60)+"name", "long"), // PAX
)

// content reads the member called name.
func content(a *File, name string) (string, error) {
	m, err := a.Lookup(name)
	if err != nil {
		return "", err
	}
	raw, err := io.ReadAll(m.Open())
	return string(raw), err
}

func TestMembersOfEveryForm(t *testing.T) {
	pipe := func(t *testing.T) *File {
		path := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		go os.WriteFile(path, sample, 0o600)
		a, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	forms := map[string]func(*testing.T) *File{
		"plain": func(t *testing.T) *File { return openBytes(t, sample) },
		"gzip":  func(t *testing.T) *File { return openBytes(t, gzipped(sample)) },
		"zstd":  func(t *testing.T) *File { return openBytes(t, zstded(t, sample)) },
		"pipe":  pipe,
		"stream": func(t *testing.T) *File {
			a, err := Read(t.Context(), bytes.NewReader(gzipped(sample)), "standard input")
			if err != nil {
				t.Fatal(err)
			}
			return a
		},
		"no end marker": func(t *testing.T) *File {
			return openBytes(t, bytes.TrimRight(sample[:len(sample)-1024], "\x00"))
		},
	}
	want := map[string]string{
		"manifest.json": "[]", "./manifest.json": "[]", "/manifest.json": "[]",
		"a/layer.tar": "one", "b/layer.tar": "one", "c/layer.tar": "one", "b//./layer.tar": "one",
		"twice": "newer", "absolute": "abs", strings.Repeat("long/", 60) + "name": "long",
	}
	for form, open := range forms {
		t.Run(form, func(t *testing.T) {
			a := open(t)
			defer a.Close()
			for name, body := range want {
				if got, err := content(a, name); err != nil || got != body {
					t.Errorf("%.30s: %q, %v, want %q", name, got, err, body)
				}
			}
			names := slices.Collect(a.Names())
			if got := names[:5]; !slices.Equal(got, []string{"manifest.json", "a/layer.tar", "b/layer.tar", "c/layer.tar", "twice"}) {
				t.Errorf("names %q", got)
			}
			if m, err := a.Lookup("twice"); err != nil || m.Copies != 2 {
				t.Errorf("%d copies, %v, want 2", m.Copies, err)
			}
		})
	}
}

func TestManyReadersAtATime(t *testing.T) {
	a := openBytes(t, sample)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if got, err := content(a, "c/layer.tar"); err != nil || got != "one" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// claim gives sample with another size in the header of its last member.
func claim(size string) []byte {
	raw := imagetest.Tar(imagetest.File("a", "one"), imagetest.File("b", "two"))
	h := raw[1024:1536]
	copy(h[124:136], size+"\x00")
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func TestWhatIsNoArchive(t *testing.T) {
	tests := []struct {
		name string
		raw  []byte
		want error
		text string
	}{
		{"empty", nil, oci.ErrInvalid, "empty"},
		{"text", []byte(strings.Repeat("no tar. ", 200)), oci.ErrInvalid, "no tar archive"},
		{"short text", []byte("no tar"), oci.ErrInvalid, "truncated"},
		{"cut in a header", sample[:1300], oci.ErrInvalid, "truncated"},
		{"cut in a body", sample[:513], oci.ErrInvalid, "2 bytes are claimed, 1 are there"},
		{"a claim of 8 GiB", claim("77777777777"), oci.ErrInvalid, "8589934591 bytes are claimed"},
		{"garbage behind a member", append(slices.Clone(sample[:1024]), bytes.Repeat([]byte("x"), 4096)...), oci.ErrInvalid, "behind 1 members"},
		{"bzip2", []byte("BZh91AY&SY"), oci.ErrUnsupported, "bzip2"},
		{"xz", []byte("\xfd7zXZ\x00\x00"), oci.ErrUnsupported, "xz"},
		{"a gzip cut short", gzipped(sample)[:100], oci.ErrInvalid, "gzip"},
		{"a zstd cut short", zstded(t, sample)[:100], oci.ErrInvalid, "zstd"},
		{"a gzip of text", gzipped([]byte(strings.Repeat("x", 1024))), oci.ErrInvalid, "no tar archive"},
		{"a gzip in a gzip", gzipped(gzipped(sample)), oci.ErrInvalid, ""},
		{"a long name", imagetest.Tar(imagetest.File(strings.Repeat("a", 5000), "")), oci.ErrTooLarge, "4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.raw)
			a, err := Open(t.Context(), path)
			if err == nil {
				a.Close()
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %v with %q and the file's name", err, tt.want, tt.text)
			}
		})
	}
}

func TestWhatIsNoFile(t *testing.T) {
	if _, err := Open(t.Context(), t.TempDir()); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "none: not found: there is no such file") {
		t.Errorf("no file: %v", err)
	}
}

func TestHostileMembers(t *testing.T) {
	special := imagetest.Entry{Header: tar.Header{Name: "dev", Typeflag: tar.TypeChar}}
	chain := []imagetest.Entry{imagetest.File("end", "x")}
	for i := range 40 {
		chain = append(chain, imagetest.Symlink(fmt.Sprintf("chain%d", i+1), fmt.Sprintf("chain%d", i)))
	}
	a := openBytes(t, imagetest.Tar(append(chain,
		imagetest.Symlink("loop", "loop2"), imagetest.Symlink("loop2", "./loop"),
		imagetest.Symlink("out", "../../etc/passwd"), imagetest.Symlink("abs", "/etc/passwd"), imagetest.Symlink("dots", ".."),
		imagetest.Hardlink("hardout", "../../../etc/passwd"), imagetest.Hardlink("hardabs", "/etc/passwd"),
		imagetest.Symlink("dangling", "nothing"), imagetest.Hardlink("self", "self"), special, imagetest.Dir("folder"),
		imagetest.File("../up", "x"),
	)...))
	tests := []struct {
		name string
		want error
	}{
		{"loop", oci.ErrInvalid}, {"out", oci.ErrInvalid}, {"abs", oci.ErrInvalid}, {"dots", oci.ErrInvalid}, {"hardout", oci.ErrInvalid},
		{"hardabs", oci.ErrNotFound}, {"dangling", oci.ErrNotFound}, {"self", oci.ErrInvalid}, {"dev", oci.ErrInvalid}, {"folder", oci.ErrNotFound},
		{"chain40", oci.ErrInvalid}, {"chain0", oci.ErrNotFound}, {"../up", oci.ErrInvalid}, {"up", oci.ErrNotFound}, {"", oci.ErrInvalid}, {"..", oci.ErrInvalid},
		{"/etc/passwd", oci.ErrNotFound}, {"a/../../etc/passwd", oci.ErrInvalid},
	}
	for _, tt := range tests {
		if _, err := a.Lookup(tt.name); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), a.Path()) {
			t.Errorf("%q: %v, want %v with the file's name", tt.name, err, tt.want)
		}
	}
}

// sparseHeader is one of GNU tar's old form, of 1 GiB in no bytes.
func sparseHeader() []byte {
	raw := imagetest.Tar(imagetest.File("hole", ""))
	h := raw[:512]
	h[156] = tar.TypeGNUSparse
	copy(h[257:265], "ustar  \x00")
	copy(h[386:482], make([]byte, 96))
	copy(h[483:495], "10000000000\x00")
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func TestSparseFilesAreRefused(t *testing.T) {
	a := openBytes(t, sparseHeader())
	if _, err := a.Lookup("hole"); !errors.Is(err, oci.ErrUnsupported) {
		t.Errorf("error %v, want unsupported", err)
	}
}

func TestReadFileHasALimit(t *testing.T) {
	a := openBytes(t, sample)
	if raw, err := a.ReadFile("twice", 5); err != nil || string(raw) != "newer" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := a.ReadFile("twice", 4); !errors.Is(err, oci.ErrTooLarge) || !strings.Contains(err.Error(), a.Path()) {
		t.Errorf("error %v, want too large with the file's name", err)
	}
}

func TestContextEndsReading(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("nobody opens the other end", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := Open(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		// Let the open that waits go.
		if f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
	})
	t.Run("nobody writes", func(t *testing.T) {
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := w.Write(sample[:2048]); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	if _, err := Read(ctx, bytes.NewReader(sample), "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream: %v", err)
	}
	if _, err := Open(ctx, write(t, sample)); !errors.Is(err, context.Canceled) {
		t.Errorf("a file: %v", err)
	}
}

func TestBombsAreDefused(t *testing.T) {
	in := &within{ctx: t.Context(), r: bytes.NewReader(gzipped(make([]byte, 8<<20)))}
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, &inflated{r: z, in: in, from: 4 << 20})
	if !errors.Is(err, oci.ErrTooLarge) || n > 5<<20 || n < 3<<20 {
		t.Errorf("after %d bytes: %v", n, err)
	}
}
