package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// diskSize adds up the files at path.
func diskSize(path string) (n int64, _ error) {
	err := filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// registrySize adds up the blobs of one image.
func registrySize(ctx context.Context, host string, i image) (n int64, _ error) {
	err := newClient().walk(ctx, host, i.repo, i.tag, func(_ string, m *manifest) error {
		for _, d := range m.blobs() {
			n += d.Size
		}
		return nil
	})
	return n, err
}

// packedAgain gives how large an image's layers are, to what gzip -6 makes of
// them: for one-big that takes a minute.
func packedAgain(ctx context.Context, host string, i image) (float64, error) {
	c := newClient()
	m, err := c.manifest(ctx, host, i.repo, i.tag)
	if err != nil {
		return 0, err
	}
	var is int64
	would := make([]int64, len(m.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for k, d := range m.Layers {
		is += d.Size
		g.Go(func() (err error) {
			would[k], err = c.gzipped(ctx, "http://"+host+"/v2/"+i.repo+"/blobs/"+d.Digest)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	total := int64(0)
	for _, n := range would {
		total += n
	}
	if total == 0 {
		return 0, fmt.Errorf("%s has no layers", i)
	}
	return float64(is) / float64(total), nil
}

// gzipped gives what gzip -6 makes of the gzip file at url, in bytes.
func (c client) gzipped(ctx context.Context, url string) (int64, error) {
	r, err := c.do(ctx, http.MethodGet, url, nil, 0)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	raw, err := gzip.NewReader(r.Body)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "gzip", "-6c")
	n := &lengthOf{}
	cmd.Stdin, cmd.Stdout = raw, n
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("gzip: %w", err)
	}
	return n.bytes, nil
}

// lengthOf counts bytes.
type lengthOf struct{ bytes int64 }

func (l *lengthOf) Write(p []byte) (int, error) {
	l.bytes += int64(len(p))
	return len(p), nil
}
