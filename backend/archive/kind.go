package archive

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is tar://PATH[:REF].
var Kind = backend.Kind{
	Scheme:  "tar",
	Aliases: []string{"file"},
	Help:    "archive of docker save, of one image or many: tar://PATH[:REF]",
	Options: map[string]string{
		"overwrite": "destination: true drops the images that the archive has and this run doesn't write; false (default) keeps them",
		"repo_tags": "destination: full (default) or basename, the names that docker load gives",
	},
	Path:   true,
	Source: source,
	Target: target,
}

func source(ctx context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	path, ref, err := splitPath(u, "stdin")
	if err != nil {
		return nil, err
	}
	f, err := tarfile.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	images, err := open(f, ref, env)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return images, nil
}

// open reads f as what it is. An OCI layout goes first: it has more.
func open(f *tarfile.File, ref string, env backend.Env) (backend.Images, error) {
	if f.Has(layout.MarkerFile) && f.Has(layout.IndexFile) {
		r := &layout.Reader{Path: f.Path(), Files: layout.Archive(f)}
		if err := r.CheckMarker(); err != nil {
			return nil, oci.Wrap(err, "open archive", f.Path(), oci.Descriptor{})
		}
		return &partial{layout.Images{Reader: r, Ref: ref, Warn: env.Warnf, Done: f.Close}}, nil
	}
	a, err := dockersave.Read(f)
	if err != nil {
		return nil, err
	}
	return newImages(f, a, ref, env), nil
}

func target(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	path, ref, err := splitPath(u, "stdout")
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil, oci.Usage(fmt.Sprintf("%s: %s is a folder; name a file", u, path))
	}
	overwrite, err := u.OptionBool("overwrite", false)
	if err != nil {
		return nil, err
	}
	tags := u.Option("repo_tags")
	if tags == "" {
		tags = env.RepoTags
	}
	if tags != "" && tags != "full" && tags != "basename" {
		return nil, oci.Usage(fmt.Sprintf("%s: repo_tags=%s: write full or basename", u, tags))
	}
	var name *oci.Ref
	if ref != "" {
		r, ok := layout.ParseName(ref)
		if !ok || r.Repository == "" {
			return nil, oci.Usage(fmt.Sprintf("%s: %q is no image name: write PATH:[host/]repository:tag", u, ref))
		}
		if r.Tag == "" && r.Digest == "" {
			r.Tag = "latest"
		}
		name = &r
	}
	return newPlace(path, name, tags == "basename", overwrite, env), nil
}

// splitPath gives the path and REF of u. stream is what "-" would mean.
func splitPath(u backend.URI, stream string) (path, ref string, err error) {
	path, ref, err = u.Path()
	if err == nil && path == "-" {
		err = oci.Usage(fmt.Sprintf("%s: for a pipe write %s:///dev/%s", u, u.Scheme, stream))
	}
	return path, ref, err
}
