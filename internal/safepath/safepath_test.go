package safepath_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

func TestReadFile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	dir := t.TempDir()
	err := errors.Join(
		os.WriteFile(outside, []byte("secret"), 0o644),
		os.WriteFile(filepath.Join(dir, "file"), []byte("body"), 0o644),
		os.Symlink("file", filepath.Join(dir, "inside")),
		os.Symlink(outside, filepath.Join(dir, "absolute")),
		os.Symlink("../"+filepath.Base(filepath.Dir(outside))+"/secret", filepath.Join(dir, "relative")),
		os.Mkdir(filepath.Join(dir, "folder"), 0o755),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })

	tests := []struct {
		name  string
		limit int64
		want  string
		kind  error
		fails bool
	}{
		{"file", 4, "body", nil, false},
		{"inside", 4, "body", nil, false},
		{"file", 3, "", oci.ErrTooLarge, true},
		{"absolute", 99, "", nil, true},
		{"relative", 99, "", nil, true},
		{"../" + filepath.Base(dir) + "/file", 99, "", nil, true},
		{"folder", 99, "", oci.ErrInvalid, true},
		{"pipe", 99, "", oci.ErrInvalid, true},
		{"absent", 99, "", os.ErrNotExist, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := safepath.ReadFile(root, tt.name, tt.limit)
			if string(got) != tt.want || (err != nil) != tt.fails || tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("got %q, %v, want %q, %v", got, err, tt.want, tt.kind)
			}
		})
	}
}

func TestComponent(t *testing.T) {
	for s, want := range map[string]bool{
		"manifest-kolla_nova-1.json": true, "..foo": true, "ü": true,
		"": false, ".": false, "..": false, "a/b": false, `a\b`: false, "a\x00": false, "a\nb": false, strings.Repeat("x", 256): false,
	} {
		if err := safepath.Component(s); (err == nil) != want {
			t.Errorf("%q: got %v, want valid %v", s, err, want)
		}
	}
}

func TestView(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	parsed := 0
	view := safepath.View[string]{Name: "file", Limit: 10, Parse: func(raw []byte) (string, error) {
		parsed++
		return string(raw), nil
	}}
	t.Cleanup(view.Close)
	if _, err := view.Get(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	for i, body := range []string{"one", "two", "six"} { // as long, in files that may get the last one's inode
		if err := errors.Join(root.WriteFile("new", []byte(body), 0o644), root.Rename("new", "file")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got, err := view.Get(root); got != body || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, body)
			}
		}
		if parsed != i+1 {
			t.Errorf("parsed %d times, want %d", parsed, i+1)
		}
	}
	if err := errors.Join(root.WriteFile("new", []byte("ten"), 0o644), root.Rename("new", "file"), view.Wrote(root, []byte("ten"), "known")); err != nil {
		t.Fatal(err)
	}
	if got, err := view.Get(root); got != "known" || err != nil || parsed != 3 {
		t.Errorf("got %q, %v, parsed %d times, want what the writer knew", got, err, parsed)
	}
	if err := errors.Join(root.WriteFile("new", []byte("not"), 0o644), root.Rename("new", "file"), view.Wrote(root, []byte("ten"), "known")); err != nil {
		t.Fatal(err)
	}
	if got, err := view.Get(root); got != "not" || err != nil || parsed != 4 {
		t.Errorf("got %q, %v, parsed %d times, want what is there", got, err, parsed)
	}
	if err := errors.Join(root.WriteFile("new", []byte("over ten bytes"), 0o644), root.Rename("new", "file")); err != nil {
		t.Fatal(err)
	}
	if _, err := view.Get(root); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("got %v, want too large", err)
	}
}

func TestOpenBlob(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if err := root.WriteFile("file", []byte("body"), 0o644); err != nil {
		t.Fatal(err)
	}
	whole := oci.Descriptor{Digest: digest.FromString("body"), Size: 4}
	tests := []struct {
		test, name string
		d          oci.Descriptor
		want       error
	}{
		{"whole", "file", whole, nil},
		{"size not known", "file", oci.Descriptor{Digest: whole.Digest, Size: -1}, nil},
		{"other bytes", "file", oci.Descriptor{Digest: digest.FromString("BODY"), Size: 4}, oci.ErrDigestMismatch},
		{"other size", "file", oci.Descriptor{Digest: whole.Digest, Size: 5}, oci.ErrDigestMismatch},
		{"absent", "absent", whole, oci.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.test, func(t *testing.T) {
			rc, err := safepath.OpenBlob(t.Context(), root, tt.name, tt.d)
			if err == nil {
				_, err = io.ReadAll(rc)
				rc.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}

	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	rc, err := safepath.OpenBlob(ctx, root, "file", whole)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	buf := make([]byte, 2)
	if n, err := rc.Read(buf); n != 2 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	cancel(cause)
	if n, err := rc.Read(buf); n != 0 || !errors.Is(err, cause) {
		t.Errorf("after the end of ctx: read %d, %v", n, err)
	}
}
