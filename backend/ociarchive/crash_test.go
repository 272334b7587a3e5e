package ociarchive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ociarchive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

// The test binary is also the process that is killed: it adds an image to an
// archive.
const pathEnv = "OCIARCHIVE_TEST_PATH"

func TestMain(m *testing.M) {
	if os.Getenv(pathEnv) == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background(), os.Getenv(pathEnv)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

var big = sync.OnceValue(func() imagetest.Image {
	return raw(8 << 20)
})

// raw is an image of one layer of size zeros.
func raw(size int) imagetest.Image {
	return imagetest.New(imagetest.Linux, nil, imagetest.Blob("application/vnd.oci.image.layer.v1.tar", make([]byte, size)))
}

func child(ctx context.Context, path string) error {
	u, err := backend.ParseURI("oci-archive://" + path)
	if err != nil {
		return err
	}
	target, err := ociarchive.Kind.Target(ctx, u, backend.Env{})
	if err != nil {
		return err
	}
	fmt.Println("begun")
	if err := put(ctx, target, "h.x/big:1", big()); err != nil {
		return err
	}
	fmt.Println("put")
	return errors.Join(target.Finish(ctx), target.Close())
}

func TestKilledRunsLeaveAWholeArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	save(t, path, map[string]imagetest.Image{"h.x/a:1": first})
	old := read(t, path)
	for n := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), pathEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		want := []string{"begun\n", "begun\nput\n"}[n%2]
		if _, err := io.ReadFull(out, make([]byte, len(want))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if err := readAll(t, path); err != nil {
			t.Fatalf("killed: %v", err)
		}
		if names := ls(t, filepath.Dir(path)); !slices.Equal(names, []string{"a.tar"}) && !slices.Equal(names, []string{".a.tar.lock", "a.tar"}) {
			t.Errorf("killed, the folder holds %q", names)
		}
		if !bytes.Equal(read(t, path), old) { // it was done before
			if err := os.WriteFile(path, old, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pathEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	src := openSource(t, "oci-archive://"+path, nil)
	readBack(t, sourceOf(t, src, "h.x/a:1"), "", first)
	readBack(t, sourceOf(t, src, "h.x/big:1"), "", big())
	if names := ls(t, filepath.Dir(path)); !slices.Equal(names, []string{"a.tar"}) {
		t.Errorf("in the end the folder holds %q", names)
	}
}

func TestFullDisk(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := dir + "/a.tar"
	save(t, path, map[string]imagetest.Image{"h.x/small:1": first})
	old := read(t, path)
	full := func(err error) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line that names the archive", err)
		}
	}
	target := openTarget(t, "oci-archive://"+path)
	full(put(t.Context(), target, "h.x/big:1", raw(2<<20)))
	// Room for the blobs but not for the archive beside them.
	if err := put(t.Context(), target, "h.x/half:1", raw(700<<10)); err != nil {
		t.Fatal(err)
	}
	full(target.Finish(t.Context()))
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ls(t, dir); !bytes.Equal(read(t, path), old) || len(got) != 1 {
		t.Errorf("the old archive is no more, or not alone: %q", got)
	}
}

// zeros is an endless blob.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestMemoryDoesNotGrowWithBlobs(t *testing.T) {
	const size = 48 << 20
	path := filepath.Join(t.TempDir(), "a.tar")
	target := openTarget(t, "oci-archive://"+path)
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	layer, err := dst.PutBlob(t.Context(), oci.Blob{Desc: oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Size: -1}, Layer: oci.UnknownLayer,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, size)), nil }})
	if err != nil || layer.Size != size {
		t.Fatalf("%+v, %v", layer, err)
	}
	img := imagetest.New(imagetest.Linux, nil, imagetest.Layer{Desc: layer, DiffID: layer.Digest})
	delete(img.Blobs, layer.Digest)
	if err := errors.Join(putAll(t.Context(), dst, img), dst.Commit(t.Context(), img.Desc, img.Desc), dst.Verify(t.Context(), img.Desc, true), target.Finish(t.Context())); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d MiB were allocated for %d MiB", got>>20, size>>20)
	}
	if err := readAll(t, path); err != nil {
		t.Error(err)
	}
}
