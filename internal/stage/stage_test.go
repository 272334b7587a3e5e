package stage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

func blobName(d oci.Digest) string { return "blobs/" + d.Encoded() }

func open(t *testing.T, path string) *stage.Stage {
	t.Helper()
	st, err := stage.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func blob(d oci.Descriptor, bodies ...func() io.Reader) oci.Blob {
	n := 0
	return oci.Blob{Desc: d, Open: func(context.Context) (io.ReadCloser, error) {
		n++
		return io.NopCloser(bodies[min(n, len(bodies))-1]()), nil
	}}
}

func text(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }

func desc(s string) oci.Descriptor {
	return oci.Descriptor{Digest: digest.FromString(s), Size: int64(len(s))}
}

// files lists all files beneath path.
func files(t *testing.T, path string) []string {
	t.Helper()
	names := []string{}
	err := fs.WalkDir(os.DirFS(path), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPut(t *testing.T) {
	reset := func() io.Reader {
		return io.MultiReader(strings.NewReader("bo"), errReader{errors.New("connection reset by peer")})
	}
	gone := func() io.Reader { return errReader{oci.ErrNotFound} }
	sum512 := digest.SHA512.FromString("body")
	tests := []struct {
		name string
		blob oci.Blob
		want oci.Digest // "": an error of kind
		kind error
	}{
		{"known digest", blob(desc("body"), text("body")), digest.FromString("body"), nil},
		{"unknown digest", blob(oci.Descriptor{Size: -1}, text("body")), digest.FromString("body"), nil},
		{"sha512", blob(oci.Descriptor{Digest: sum512, Size: 4}, text("body")), sum512, nil},
		{"empty", blob(desc(""), text("")), digest.FromString(""), nil},
		{"reset, then whole", blob(desc("body"), reset, text("body")), digest.FromString("body"), nil},
		{"wrong bytes once", blob(desc("body"), text("BODY"), text("body")), digest.FromString("body"), nil},
		{"wrong bytes always", blob(desc("body"), text("BODY")), "", oci.ErrDigestMismatch},
		{"too short", blob(desc("body"), text("bod")), "", oci.ErrDigestMismatch},
		{"too long", blob(desc("body"), text("body and more")), "", oci.ErrDigestMismatch},
		{"not there, and not asked for twice", blob(desc("body"), gone, text("body")), "", oci.ErrNotFound},
		{"a path for a digest", blob(oci.Descriptor{Digest: "sha256:../../x"}, text("body")), "", oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir()
			st := open(t, path)
			d, err := st.Put(t.Context(), tt.blob, blobName)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(err, tt.kind) || d.Digest != tt.want {
				t.Fatalf("got %s, %v, want %s, %v", d.Digest, err, tt.want, tt.kind)
			}
			want := []string{}
			if err == nil {
				want = append(want, blobName(tt.want))
			}
			if got := files(t, path); !slices.Equal(got, want) {
				t.Errorf("the folder holds %q, want %q", got, want)
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestPutReplaces: a short file of that name is what a dead run of another
// program left.
func TestPutReplaces(t *testing.T) {
	path := t.TempDir()
	name := filepath.Join(path, blobName(desc("body").Digest))
	if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("bo"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path).Put(t.Context(), blob(desc("body"), text("body")), blobName); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); string(got) != "body" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPutTheSameAtOnce(t *testing.T) {
	path := t.TempDir()
	st := open(t, path)
	body := strings.Repeat("body", 100_000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := st.Put(t.Context(), blob(desc(body), text(body)), blobName); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := os.ReadFile(filepath.Join(path, blobName(desc(body).Digest))); string(got) != body || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	path := t.TempDir()
	st := open(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	endless := readerFunc(func(p []byte) (int, error) {
		cancel(cause)
		return len(p), nil
	})
	if _, err := st.Put(ctx, blob(oci.Descriptor{}, func() io.Reader { return endless }), blobName); !errors.Is(err, cause) {
		t.Errorf("got %v, want the context's cause", err)
	}
	for _, name := range files(t, path) {
		if filepath.Base(name) != "lock" {
			t.Errorf("%s was left", name)
		}
	}
}

// TestPutStopsAnEndlessBody: the disk is not filled to find out that a body is
// longer than its descriptor says.
func TestPutStopsAnEndlessBody(t *testing.T) {
	read := 0
	endless := readerFunc(func(p []byte) (int, error) {
		if read += len(p); read > 10<<20 {
			return 0, errors.New("it is read on and on")
		}
		return len(p), nil
	})
	_, err := open(t, t.TempDir()).Put(t.Context(), blob(desc("body"), func() io.Reader { return endless }), blobName)
	if !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("got %v after %d bytes, want a mismatch", err, read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestKilledRun kills a writer in the middle of a blob: as long as it lives its
// run folder is left alone, then the next writer removes it.
func TestKilledRun(t *testing.T) {
	path := t.TempDir()
	child, said := start(t, "hang", path)
	if said != "in the middle" {
		t.Fatalf("the child said %s", said)
	}
	theirs := files(t, path)
	other := open(t, path)
	if _, err := other.Put(t.Context(), blob(desc("body"), text("body")), blobName); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(theirs), blobName(desc("body").Digest))
	slices.Sort(want)
	if got := files(t, path); !slices.Equal(got, want) {
		t.Errorf("beside a living writer there is %q, want %q", got, want)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	if err := open(t, path).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, path), []string{blobName(desc("body").Digest)}; !slices.Equal(got, want) {
		t.Errorf("after its death there is %q, want %q", got, want)
	}
	if _, err := os.Lstat(filepath.Join(path, stage.Folder)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", stage.Folder, err)
	}
}

func TestBeginSweeps(t *testing.T) {
	path := t.TempDir()
	dead := filepath.Join(path, stage.Folder, "run-dead")
	if err := errors.Join(os.MkdirAll(dead, 0o755), os.WriteFile(filepath.Join(dead, "temp"), []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path).Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead run's folder stays: %v", err)
	}
}

// TestFilesMayNotGrow: what a quota does, without rights to set one.
func TestFilesMayNotGrow(t *testing.T) {
	path := t.TempDir()
	child, said := start(t, "small", path)
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if said != `"file too large"` {
		t.Errorf("the child said %s", said)
	}
	if got := files(t, path); len(got) > 0 {
		t.Errorf("%q was left", got)
	}
}

func TestFullDisk(t *testing.T) {
	need.Root(t)
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	st := open(t, path)
	big := bytes.Repeat([]byte("x"), 2<<20)
	_, err := st.Put(t.Context(), blob(desc(string(big)), text(string(big))), blobName)
	if !errors.Is(err, unix.ENOSPC) || err.Error() != "no space left on device" {
		t.Errorf("got %v, want that there is no space", err)
	}
	if _, err := st.Put(t.Context(), blob(desc("body"), text("body")), blobName); err != nil {
		t.Errorf("what did not fit still takes its space: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, path), []string{blobName(desc("body").Digest)}; !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func TestOpenRefusesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Open(path, nil); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("got %v, want a usage error", err)
	}
}

// TestRefusedFolderStaysAsItWas: prepare says no under the lock.
func TestRefusedFolderStaysAsItWas(t *testing.T) {
	path := t.TempDir()
	st, err := stage.Open(path, func(*os.Root, func(string, []byte) error) error { return oci.Usage("not this one") })
	if err != nil {
		t.Fatal(err)
	}
	if err := st.WriteFile(t.Context(), "file", nil); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("got %v, want what prepare said", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(path); len(entries) > 0 || err != nil {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestClosedStageWritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	st := open(t, path)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.WriteFile(t.Context(), "file", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %v, want that it is closed", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

// TestGroup: while one writes, the others gather, and go together.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 50
		var batches []int
		unlocks := 0
		release := make(chan struct{})
		g := stage.NewGroup(func(context.Context) (func() error, error) {
			return func() error { unlocks++; return nil }, nil
		}, func(_ context.Context, batch []int) []error {
			if len(batches) == 0 {
				<-release
			}
			batches = append(batches, len(batch))
			errs := make([]error, len(batch))
			for i, n := range batch {
				if n%10 == 3 {
					errs[i] = oci.ErrRefused
				}
			}
			return errs
		})
		do := func(n int) {
			if err := g.Do(t.Context(), n); errors.Is(err, oci.ErrRefused) != (n%10 == 3) {
				t.Errorf("%d: got %v", n, err)
			}
		}
		go do(0)
		synctest.Wait()
		for n := range callers {
			go do(n)
		}
		synctest.Wait() // all wait for the first
		close(release)
		synctest.Wait()
		if want := []int{1, callers}; !slices.Equal(batches, want) || unlocks != 2 {
			t.Errorf("wrote batches of %v, want %v; %d unlocks, want 2", batches, want, unlocks)
		}
	})
}

func TestGroupTakesBack(t *testing.T) {
	locked := errors.New("no lock")
	var values []int
	fail := true
	g := stage.NewGroup(func(context.Context) (func() error, error) {
		if fail {
			return nil, locked
		}
		return func() error { return nil }, nil
	}, func(_ context.Context, batch []int) []error {
		values = append(values, batch...)
		return nil
	})
	if err := g.Do(t.Context(), 1); !errors.Is(err, locked) {
		t.Errorf("got %v, want the lock's error", err)
	}
	fail = false
	if err := g.Do(t.Context(), 2); err != nil || !slices.Equal(values, []int{2}) {
		t.Errorf("wrote %v, %v, want only the second", values, err)
	}
}
