package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// cmdVerify checks that every listed tag has the same manifests at both ends,
// and that the destination has every blob that they name.
func cmdVerify(ctx context.Context, args []string, out io.Writer) error {
	fs := flags("verify")
	src := fs.String("src", "127.0.0.1:5001", "source, `host:port`")
	dst := fs.String("dst", "127.0.0.1:5002", "destination, `host:port`")
	list := fs.String("list", "", "`file` of repository:tag lines")
	same := fs.Bool("same", true, "want the same manifests, not only complete ones")
	if err := fs.Parse(args); err != nil {
		return err
	}
	n, err := verifyRegistry(ctx, *src, *dst, *list, *same)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "checked %d blobs\n", n)
	return nil
}

// verifyRegistry gives how many blobs it asked for, and every difference in one error.
func verifyRegistry(ctx context.Context, src, dst, list string, same bool) (blobs int, _ error) {
	images, err := readList(list)
	if err != nil {
		return 0, err
	}
	c := newClient()
	var bad []error
	for _, i := range images {
		err := c.walk(ctx, dst, i.repo, i.tag, func(ref string, m *manifest) error {
			if same {
				want, err := c.manifest(ctx, src, i.repo, ref)
				if err != nil {
					return err
				}
				if !bytes.Equal(want.raw, m.raw) {
					bad = append(bad, fmt.Errorf("%s %s differs", i, ref))
				}
			}
			for _, d := range m.blobs() {
				blobs++
				if _, _, err := c.ask(ctx, http.StatusOK, http.MethodHead, "http://"+dst+"/v2/"+i.repo+"/blobs/"+d.Digest, nil); err != nil {
					bad = append(bad, err)
				}
			}
			return nil
		})
		if err != nil {
			bad = append(bad, err)
		}
	}
	return blobs, errors.Join(bad...)
}

// verifyLayout checks that the OCI layout dir has the blobs of i, by size.
func verifyLayout(ctx context.Context, src string, i image, dir string) error {
	c := newClient()
	return c.walk(ctx, src, i.repo, i.tag, func(_ string, m *manifest) error {
		for _, d := range m.blobs() {
			at, err := os.Stat(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(d.Digest, "sha256:")))
			if err != nil {
				return err
			}
			if at.Size() != d.Size {
				return fmt.Errorf("%s has %d bytes, not %d", d.Digest, at.Size(), d.Size)
			}
		}
		return nil
	})
}
