package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// packedAgain gives how large an image's smaller layers are, to what gzip -6
// makes of them. The large ones would take minutes.
func packedAgain(ctx context.Context, host string, i image) (float64, error) {
	const most = 30 << 20
	c := newClient()
	m, err := c.manifest(ctx, host, i.repo, i.tag)
	if err != nil {
		return 0, err
	}
	var is, would int64
	for _, d := range m.Layers {
		if d.Size > most {
			continue
		}
		packed, _, err := c.ask(ctx, http.StatusOK, http.MethodGet, "http://"+host+"/v2/"+i.repo+"/blobs/"+d.Digest, nil)
		if err != nil {
			return 0, err
		}
		raw, err := gunzip(packed)
		if err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(ctx, "gzip", "-6c")
		cmd.Stdin = strings.NewReader(string(raw))
		n := &lengthOf{}
		cmd.Stdout = n
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("gzip: %w", err)
		}
		is, would = is+d.Size, would+n.bytes
	}
	if would == 0 {
		return 0, fmt.Errorf("%s has no layer below %d bytes", i, most)
	}
	return float64(is) / float64(would), nil
}

// lengthOf counts bytes.
type lengthOf struct{ bytes int64 }

func (l *lengthOf) Write(p []byte) (int, error) {
	l.bytes += int64(len(p))
	return len(p), nil
}
