package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// What the program may have resident at most, in bytes.
const (
	mostCopying = 48 << 20 // while bytes pass as they are
	mostPasses  = 64 << 20 // while layers go through filters or are searched
)

// stream gives size random bytes without holding them.
func stream(size int64) io.ReadCloser {
	return io.NopCloser(io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
}

// pushBig puts an image with one layer of size random bytes, which is no file
// system, as repo:v1.
func pushBig(t *testing.T, host, repo string, size int64) oci.Descriptor {
	t.Helper()
	dst := destination(t, env(t, transport.Options{}), host, repo, "v1")
	layer, err := dst.PutBlob(t.Context(), oci.Blob{
		Desc: oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Size: -1},
		Open: func(context.Context) (io.ReadCloser, error) { return stream(size), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	img := imagetest.New(imagetest.Linux, nil, imagetest.Layer{Desc: layer, DiffID: layer.Digest})
	delete(img.Blobs, layer.Digest) // it is there
	if err := write(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	return layer
}

func TestMemoryOfOneBigLayer(t *testing.T) {
	const size = 1 << 30
	from := spawnRegistry(t, t.TempDir())
	layer := pushBig(t, from, "big", size)
	t.Run("to a registry", func(t *testing.T) {
		to := spawnRegistry(t, t.TempDir())
		r := must(t, "process", "--plain-http", "registry://"+from+"/big:v1", "registry://"+to+"/big:v1")
		small(t, r, mostCopying)
		dst := destination(t, env(t, transport.Options{}), to, "big", "v1")
		if there, err := dst.Has(t.Context(), layer); err != nil || !there {
			t.Errorf("the layer is not there: %v", err)
		}
	})
	t.Run("to a layout", func(t *testing.T) {
		layout := filepath.Join(t.TempDir(), "layout")
		small(t, must(t, "process", "--plain-http", "registry://"+from+"/big:v1", "ocidir://"+layout), mostCopying)
		f, err := os.Open(filepath.Join(layout, "blobs", "sha256", layer.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := digest.FromReader(f); err != nil || got != layer.Digest {
			t.Errorf("the layer is %s, %v, want %s", got, err, layer.Digest)
		}
	})
}

func TestMemoryOfManyImages(t *testing.T) {
	const images = 400
	from, to := spawnRegistry(t, t.TempDir()), spawnRegistry(t, t.TempDir())
	base := imagetest.Random(1, 2<<20)
	e := env(t, transport.Options{})
	var list strings.Builder
	var g errgroup.Group
	g.SetLimit(8) // each waits for the disk
	for i := range images {
		repo := fmt.Sprintf("team/app%03d", i)
		fmt.Fprintf(&list, "%s/%s:v1\n", from, repo)
		push := func() error {
			img := imagetest.New(imagetest.Linux, nil, base, imagetest.Random(uint64(i), 20_000))
			return pushShared(t, e, from, repo, base, img)
		}
		if i > 0 { // which has the base
			g.Go(push)
		} else if err := push(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	small(t, must(t, "process", "--plain-http", "list://"+file, "registry://"+to), mostCopying)
	for _, i := range []int{0, images - 1} {
		seen(t, to, fmt.Sprintf("team/app%03d:v1", i), seeImage)
	}
}

// pushShared puts img into repo; base comes from the first repository that has it.
func pushShared(t *testing.T, e backend.Env, host, repo string, base imagetest.Layer, img imagetest.Image) error {
	dst := destination(t, e, host, repo, "v1")
	mounted, err := dst.(oci.Mounter).Mount(t.Context(), base.Desc, "team/app000")
	if err != nil {
		return err
	}
	if mounted {
		delete(img.Blobs, base.Desc.Digest)
	}
	if err := write(t.Context(), dst, img); err != nil {
		return err
	}
	return dst.Commit(t.Context(), img.Desc, img.Desc)
}

// small looks whether r stayed below most bytes.
func small(t *testing.T, r result, most int64) {
	t.Helper()
	t.Logf("%d MiB resident at most", r.peak>>20)
	if r.peak > most {
		t.Errorf("%d MiB were resident, %d may be", r.peak>>20, most>>20)
	}
}
