package tarfile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func section(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

// spooled is a section in the middle of a file.
func spooled(t *testing.T, s string) *io.SectionReader {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString("before" + s + "behind"); err != nil {
		t.Fatal(err)
	}
	return io.NewSectionReader(f, 6, int64(len(s)))
}

func TestWriter(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	members := map[string]string{"a": "", "b/c": strings.Repeat("c", block), "d": long, strings.Repeat("e", 120): "é"}
	order := []string{"a", "b/c", "d", strings.Repeat("e", 120)}
	write := func(t *testing.T, out io.Writer, open func(*testing.T, string) *io.SectionReader) {
		t.Helper()
		w := NewWriter(t.Context(), out)
		if err := w.Folder("b/"); err != nil {
			t.Fatal(err)
		}
		for _, name := range order {
			if err := w.File(name, open(t, members[name])); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var want bytes.Buffer
	write(t, &want, func(_ *testing.T, s string) *io.SectionReader { return section(s) })
	if want.Len()%record != 0 {
		t.Errorf("%d bytes, which no other tar writes", want.Len())
	}
	for what, flag := range map[string]int{"file": 0, "file that is appended to": os.O_APPEND} {
		path := filepath.Join(t.TempDir(), "a.tar")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		write(t, f, spooled)
		f.Close()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: other bytes: %d, %v, want %d", what, len(got), err, want.Len())
		}
	}
	a, err := Read(t.Context(), &want, "a.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for name, body := range members {
		if got, err := a.ReadFile(name, 1<<20); err != nil || string(got) != body {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(body))
		}
	}
}

func TestWriterSaysSizesOverEightGigabytes(t *testing.T) {
	const size = 9 << 30
	var b bytes.Buffer
	w := NewWriter(t.Context(), &b)
	if err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("a", 128) + "/layer.tar", Size: size}); err != nil || b.Len()%block != 0 {
		t.Fatalf("%d bytes, %v", b.Len(), err)
	}
	if h, err := tar.NewReader(&b).Next(); err != nil || h.Size != size {
		t.Errorf("read back %+v, %v", h, err)
	}
}

func TestWriterTellsWhatFails(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	short := spooled(t, "123456")
	short = io.NewSectionReader(outer(short), 6, 100) // the file has been cut
	out, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, to := range []io.Writer{out, io.Discard} {
		if err := NewWriter(t.Context(), to).File("m", short); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "m: ") {
			t.Errorf("a file that was cut: %v", err)
		}
		if err := NewWriter(ended, to).File("m", spooled(t, "x")); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	}
}

func outer(s *io.SectionReader) io.ReaderAt { r, _, _ := s.Outer(); return r }
