package bundle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is oci://PATH[?overwrite=true][&hostname=NAME][&network=host]. It is a
// destination only.
var Kind = backend.Kind{
	Scheme: "oci",
	Path:   true,
	Help:   "OCI runtime bundle, for runc: oci://PATH[?overwrite=true] (an image layout is ocidir://)",
	Options: map[string]string{
		"overwrite": "true: replace what is at PATH, whatever it is; false (default): refuse",
		"hostname":  "of the container; default " + runspec.DefaultHostname,
		"network":   "none (default): a network of its own with the loopback alone; host: the machine's",
	},
	Target: target,
}

func target(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	if ref != "" {
		return nil, oci.Usage(fmt.Sprintf("%s: a runtime bundle is one folder, without a name of an image in it; an image layout is ocidir://%s:%s, and a colon of the path %%3A", u, path, ref))
	}
	p := &place{path: path, env: env, how: runspec.Options{Hostname: u.Option("hostname")}}
	if p.how.Hostname == "" {
		p.how.Hostname = runspec.DefaultHostname
	}
	if p.overwrite, err = u.OptionBool("overwrite", false); err != nil {
		return nil, err
	}
	switch n := u.Option("network"); n {
	case "", "none":
	case "host":
		p.how.HostNetwork = true
	default:
		return nil, oci.Usage(fmt.Sprintf("%s: option network=%s: write none or host", u, n))
	}
	if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
		return nil, oci.Usage(path + " is a file; name a folder")
	}
	// What PATH links to is replaced, not the link.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		p.path = real
	}
	return p, nil
}

// place is a bundle's folder.
type place struct {
	path      string
	overwrite bool
	how       runspec.Options
	env       backend.Env
}

// Traits: one image, its layers as plain tar, lowest first.
func (p *place) Traits() oci.Traits { return oci.Traits{Raw: true, Ordered: true} }

// Image opens the bundle for the image name. The error matches [oci.ErrRefused] if
// there is something at PATH that is no bundle of ours, unless it may be
// overwritten.
func (p *place) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	d := &destination{place: p, ref: name}
	if err := p.free(); err != nil {
		if _, ours := d.marks(); !ours {
			return nil, oci.Wrap(err, "open bundle", p.path, oci.Descriptor{})
		}
	}
	return d, nil
}

// free returns an error matching [oci.ErrRefused] if PATH has something that may
// not be replaced.
func (p *place) free() error {
	if p.overwrite {
		return nil
	}
	names, err := os.ReadDir(p.path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if len(names) > 0 {
		return oci.Refuse(p.path + " is there and isn't empty: remove it, name another folder, or say overwrite=true")
	}
	return nil
}

// Finish does nothing: a bundle is there once its image is.
func (p *place) Finish(context.Context) error { return nil }

func (p *place) Close() error { return nil }
