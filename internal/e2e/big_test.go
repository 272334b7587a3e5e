package e2e

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// bigFiles is what a layer has of each kind of big file, in MiB of tar: 42 and
// 40 are 60 MiB of gzip.
type bigFiles struct{ random, text int }

// pushLayers puts an image of n big layers as repo:v1, without holding them.
func pushLayers(t testing.TB, host, repo string, n int, size bigFiles) imagetest.Image {
	t.Helper()
	dst := destination(t, env(t, transport.Options{}), host, repo, "v1")
	layers := make([]imagetest.Layer, n)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(2)
	gzip, dir := need.Program(t, "gzip"), t.TempDir()
	for i := range n {
		g.Go(func() error {
			file := filepath.Join(dir, fmt.Sprint(i))
			l, err := bigLayer(ctx, gzip, file, uint64(i), size)
			if err != nil {
				return err
			}
			layers[i] = l
			if _, err := dst.PutBlob(ctx, oci.Blob{Desc: l.Desc, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(file) }}); err != nil {
				return err
			}
			return os.Remove(file)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	img := imagetest.New(imagetest.Linux, nil, layers...)
	for _, l := range layers {
		delete(img.Blobs, l.Desc.Digest) // it is there
	}
	if err := write(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
		t.Fatal(err)
	}
	return img
}

// bigLayer writes a gzip-ed layer into a file. Its Bytes are nil.
func bigLayer(ctx context.Context, gzip, file string, seed uint64, size bigFiles) (imagetest.Layer, error) {
	out, err := os.Create(file)
	if err != nil {
		return imagetest.Layer{}, err
	}
	defer out.Close()
	sum := digest.SHA256.Digester()
	cmd := exec.CommandContext(ctx, gzip, "-1", "-n") // a program is not slowed down by the race detector
	cmd.Stdout = io.MultiWriter(out, sum.Hash())
	in, err := cmd.StdinPipe()
	if err != nil {
		return imagetest.Layer{}, err
	}
	if err := cmd.Start(); err != nil {
		return imagetest.Layer{}, err
	}
	diffID := digest.SHA256.Digester()
	err = bigTar(io.MultiWriter(in, diffID.Hash()), seed, size)
	if e := in.Close(); err == nil {
		err = e
	}
	if e := cmd.Wait(); err == nil {
		err = e
	}
	if err != nil {
		return imagetest.Layer{}, err
	}
	info, err := out.Stat()
	if err != nil {
		return imagetest.Layer{}, err
	}
	d := oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: sum.Digest(), Size: info.Size()}
	return imagetest.Layer{Desc: d, DiffID: diffID.Digest()}, nil
}

// bigTar writes what is in a layer: files that don't compress, texts, and many
// small files.
func bigTar(w io.Writer, seed uint64, size bigFiles) error {
	tw := tar.NewWriter(w)
	put := func(name string, body []byte, times int) error {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body) * times)}); err != nil {
			return err
		}
		for range times {
			if _, err := tw.Write(body); err != nil {
				return err
			}
		}
		return nil
	}
	text := words(seed, 1<<20) // gzip looks back 32 KiB, so that again is as good as new
	for i := range 3000 {
		if err := put(fmt.Sprintf("etc/layer%d/%02d/%04d.conf", seed, i%97, i), text[i*100:][:(1+i%8)<<10], 1); err != nil {
			return err
		}
	}
	random := rand.NewChaCha8([32]byte{byte(seed)})
	body := make([]byte, 4<<20)
	for i := 0; i < size.random; i += 4 {
		if _, err := random.Read(body); err != nil {
			return err
		}
		if err := put(fmt.Sprintf("usr/lib/layer%d/%d.so", seed, i), body, 1); err != nil {
			return err
		}
	}
	for i := 0; i < size.text; i += 8 {
		if err := put(fmt.Sprintf("usr/share/layer%d/%d.txt", seed, i), text, 8); err != nil {
			return err
		}
	}
	return tw.Close()
}

// words are n bytes of text, of which gzip makes a third.
func words(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	vocabulary := make([]string, 2000)
	for i := range vocabulary {
		word := make([]byte, 3+rng.IntN(8))
		for j := range word {
			word[j] = byte('a' + rng.IntN(26))
		}
		vocabulary[i] = string(word)
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
		b.WriteByte(' ')
	}
	return []byte(b.String()[:n])
}
