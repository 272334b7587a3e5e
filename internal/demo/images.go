package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A tagged image is what one tag of one repository names.
type tagged struct {
	repo, tag string
	image     imagetest.Image
}

// services are the repositories that stand on the common layers, each with the
// folder of Go's source that stands in for its own files.
var services = []struct{ repo, tree string }{
	{"cinder-api", "index"},
	{"cinder-volume", "database"},
	{"glance-api", "image"},
	{"heat-api", "hash"},
	{"heat-engine", "text"},
	{"horizon", "html"},
	{"keystone", "bytes"},
	{"neutron-agent", "mime"},
	{"neutron-server", "regexp"},
	{"nova-api", "compress"},
	{"nova-compute", "archive"},
	{"nova-conductor", "log"},
	{"tools/debug", "testing"},
}

// organisation makes the images: two flavours of each service, whose newest is
// also latest, and base with two platforms. Layers are real file trees, those of the
// Go installation; the lower ones are shared.
func organisation(ctx context.Context) ([]tagged, error) {
	src, err := goSource(ctx)
	if err != nil {
		return nil, err
	}
	var all []tagged
	common, err := tree(src, "net", "usr/lib/openstack")
	if err != nil {
		return nil, err
	}
	for _, flavour := range []string{"debian", "ubuntu"} {
		bottom, err := tree(src, "encoding", "usr/lib/base", file{"etc/os-release", "ID=" + flavour + "\nPRETTY_NAME=\"Demo " + flavour + "\"\n"})
		if err != nil {
			return nil, err
		}
		for _, s := range services {
			own, err := tree(src, s.tree, "usr/lib/"+s.repo, file{"etc/service", s.repo + "\n"})
			if err != nil {
				return nil, err
			}
			img := imagetest.New(imagetest.Linux, map[string]string{"flavour": flavour, "service": s.repo}, bottom, common, own)
			all = append(all, tagged{s.repo, "2025.1-" + flavour, img})
			if flavour == "debian" {
				all = append(all, tagged{s.repo, "latest", img})
			}
		}
		var platforms []imagetest.Image
		for _, arch := range []string{"amd64", "arm64"} {
			only := imagetest.Files(map[string]string{"etc/architecture": arch + "\n"})
			platforms = append(platforms, imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, map[string]string{"flavour": flavour}, bottom, only))
		}
		all = append(all, tagged{"base", "2025.1-" + flavour, imagetest.Index(platforms...)})
	}
	return all, nil
}

// goSource gives the folder of the Go installation's source.
func goSource(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask for GOROOT: %w", err)
	}
	// A distribution's GOROOT may hold links.
	return filepath.EvalSymlinks(filepath.Join(strings.TrimSpace(string(out)), "src"))
}

// A file is one more file of a layer.
type file struct{ name, content string }

// tree makes a layer of the folder name of src, put at prefix, and of more. Modes and times
// are made the same everywhere, so that two runs make the same layer.
func tree(src, name, prefix string, more ...file) (imagetest.Layer, error) {
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	add := func(h tar.Header, body io.Reader) error {
		h.ModTime = time.Unix(1_750_000_000, 0)
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.Copy(w, body)
		return err
	}
	for _, f := range more {
		if err := add(tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}, strings.NewReader(f.content)); err != nil {
			return imagetest.Layer{}, err
		}
	}
	root := os.DirFS(src)
	err := fs.WalkDir(root, name, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return add(tar.Header{Typeflag: tar.TypeDir, Name: prefix + "/" + p + "/", Mode: 0o755}, strings.NewReader(""))
		case !d.Type().IsRegular():
			return nil
		}
		body, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		return add(tar.Header{Name: prefix + "/" + p, Mode: 0o644, Size: int64(len(body))}, bytes.NewReader(body))
	})
	if err != nil {
		return imagetest.Layer{}, fmt.Errorf("make a layer of %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return imagetest.Layer{}, err
	}
	return imagetest.Gzip(raw.Bytes()), nil
}
