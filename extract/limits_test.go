package extract_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// endless is the tar of a file with all the bytes that anybody wants.
func endless() io.Reader {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "big", Mode: 0o644, Size: 1 << 40}); err != nil {
		panic(err)
	}
	return io.MultiReader(&head, zeros{})
}

// checksum is a tar header's, over its sum's field as blanks.
func checksum(head []byte) (sum int) {
	for i, b := range head {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int(b)
	}
	return sum
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestLimits(t *testing.T) {
	var bomb bytes.Buffer
	zw := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(zw, endless(), 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	var many []imagetest.Entry
	for range 20 {
		many = append(many, imagetest.File(strings.Repeat("a/", len(many)+1)+"f", ""))
	}
	long := imagetest.Tar(imagetest.File("a", strings.Repeat("x", 2<<20)), imagetest.File("b", ""))
	long[156] = tar.TypeXHeader // in the place of '0'
	copy(long[148:], fmt.Sprintf("%06o", checksum(long[:512])))
	tests := []struct {
		name string
		in   io.Reader
		opt  layer.Options
		want error
	}{
		{"bytes", endless(), layer.Options{MaxBytes: 1 << 20}, oci.ErrTooLarge},
		{"compressed bytes", bytes.NewReader(bomb.Bytes()), layer.Options{RatioFrom: 1 << 20}, oci.ErrTooLarge},
		{"entries", bytes.NewReader(imagetest.Tar(many...)), layer.Options{MaxEntries: 10}, oci.ErrTooLarge},
		{"directories without entries", bytes.NewReader(imagetest.Tar(imagetest.File(strings.Repeat("a/", 100)+"f", ""))), layer.Options{MaxEntries: 10}, oci.ErrTooLarge},
		{"a huge PAX header", bytes.NewReader(long), layer.Options{}, oci.ErrInvalid},
		{"cut off", bytes.NewReader(imagetest.Tar(imagetest.File("a", strings.Repeat("x", 2000)))[:1700]), layer.Options{}, oci.ErrInvalid},
		{"no tar", strings.NewReader(strings.Repeat("no tar", 200)), layer.Options{}, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := extract.Layer(t.Context(), dir, tt.in, extract.Options{Limits: tt.opt}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if got, err := extract.Count(t.Context(), dir); err != nil || got.Bytes > 20<<20 {
				t.Errorf("got %d bytes on the disk, %v", got.Bytes, err)
			}
		})
	}
}

func TestContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	if _, err := extract.Layer(ctx, t.TempDir(), endless(), extract.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestManyMarkers: each directory is cleared once, however often a layer says so.
func TestManyMarkers(t *testing.T) {
	in := []imagetest.Entry{imagetest.Dir("a/b/c")}
	for i := range 1000 {
		in = append(in, imagetest.File("a/b/c/"+string(rune('a'+i%26))+strings.Repeat("x", i%97), ""))
	}
	for range 1000 {
		in = append(in, imagetest.File("a/b/c/.wh..wh..opq", ""), imagetest.File("a/.wh.b", ""), imagetest.File(".wh.a", ""))
	}
	start := time.Now()
	if _, _, err := run(t, layers{{imagetest.File("a/low", "")}, in}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestRootless extracts, reads and removes as a user without rights.
func TestRootless(t *testing.T) {
	const nobody = 65534
	if dir := os.Getenv("EXTRACT_AS_NOBODY"); dir != "" {
		rootless(t, dir)
		return
	}
	need.Root(t)
	base, err := os.MkdirTemp("/tmp", "rootless") // where anybody may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	exe := filepath.Join(base, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(base, 0o777), os.WriteFile(exe, self, 0o755), os.Chmod(exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestRootless$", "-test.v")
	cmd.Env, cmd.Dir = append(os.Environ(), "EXTRACT_AS_NOBODY="+base+"/r", "TMPDIR="+base), base
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func rootless(t *testing.T, base string) {
	a, err := extract.Begin(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	h := func(h tar.Header) imagetest.Entry { return imagetest.Entry{Header: h} }
	ls := layers{
		{h(tar.Header{Name: "shut/", Typeflag: tar.TypeDir, Mode: 0o500}), h(tar.Header{Name: "shut/in/", Typeflag: tar.TypeDir, Mode: 0o001}), imagetest.File("shut/in/f", "1"), imagetest.File("shut/in/g", "2"),
			h(tar.Header{Name: "su", Mode: 0o4755, Uid: 3, Gid: 4, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}),
			h(tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}), h(tar.Header{Name: "secret", Mode: 0o200}), h(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o555})},
		{imagetest.File("shut/in/.wh.f", ""), h(tar.Header{Name: "gone/", Typeflag: tar.TypeDir, Mode: 0o100}), imagetest.File("gone/x", "")},
		{imagetest.File(".wh.gone", "")},
	}
	var sums extract.Sums
	var w extract.Warnings
	for _, l := range ls {
		st, err := extract.Layer(t.Context(), a.Dir(), bytes.NewReader(imagetest.Tar(l...)), extract.Options{Sums: &sums})
		if err != nil {
			t.Fatal(err)
		}
		w.Add(st.Warnings)
	}
	if err := a.Place(false); err != nil {
		t.Fatal(err)
	}
	if got, err := sums.Check(t.Context(), base, true); err != nil || got.Entries != 6 {
		t.Errorf("got %d entries, %v", got.Entries, err)
	}
	for _, want := range []string{"1 device nodes", "1 entries belong to you", "1 extended attributes"} {
		if all := strings.Join(w.Lines(), "\n"); !strings.Contains(all, want) {
			t.Errorf("got warnings %q, want %s", all, want)
		}
	}
	if fi, err := os.Lstat(base + "/shut"); err != nil || fi.Mode().Perm() != 0o500 {
		t.Errorf("got %v, %v", fi, err)
	}
	if err := errors.Join(a.Close(), extract.Remove(base)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(base); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
