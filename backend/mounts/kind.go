package mounts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is mounts://PATH[?mount=false]. It is a destination only.
var Kind = backend.Kind{
	Scheme: "mounts",
	Path:   true,
	Help:   "layers extracted one by one, mounted by overlayfs (root, Linux): mounts://PATH[?mount=false]",
	Options: map[string]string{
		"mount": "true (default): mount the layers at PATH/rootfs; false: only write them, and plan.json with the command that mounts them",
	},
	Target: target,
}

func target(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("%s: %w: overlayfs is Linux's, and this is %s", u, oci.ErrUnsupported, runtime.GOOS)
	}
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	if ref != "" {
		return nil, oci.Usage(fmt.Sprintf("%s: the folder is of one image, without a name in it; a colon of the path is %%3A", u))
	}
	mount, err := u.OptionBool("mount", true)
	if err != nil {
		return nil, err
	}
	if mount && !mayMount() {
		return nil, fmt.Errorf("%s: %w: only root may mount; mount=false writes the layers and the command", u, oci.ErrDenied)
	}
	if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
		return nil, oci.Usage(path + " is a file; name a folder")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &place{path: path, abs: abs, mount: mount, env: env}, nil
}

// place is a folder that is to be written.
type place struct {
	path  string // as it was named
	abs   string
	mount bool
	env   backend.Env
}

// Traits: one image, its layers as plain tar, in any order.
func (p *place) Traits() oci.Traits { return oci.Traits{Raw: true} }

// Image opens the folder for the image name. The error matches [oci.ErrRefused] if
// the folder has another image, or files that aren't of such a folder.
func (p *place) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	d := newDestination(p, name)
	if err := d.look(); err != nil {
		return nil, oci.Wrap(err, "open", p.path, oci.Descriptor{})
	}
	return d, nil
}

// Finish does nothing: an image is there once it is committed.
func (p *place) Finish(context.Context) error { return nil }

func (p *place) Close() error { return nil }
