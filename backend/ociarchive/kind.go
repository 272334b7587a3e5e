package ociarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is oci-archive://PATH[:REF].
var Kind = backend.Kind{
	Scheme:  "oci-archive",
	Help:    "OCI image layout in a tar archive, of one image or many: oci-archive://PATH[:REF][?compression=gzip]",
	Path:    true,
	Options: map[string]string{backend.CompressionOption: backend.CompressionHelp},
	Source:  source,
	Target:  target,
}

func source(ctx context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	if err := backend.NoCompression(u); err != nil {
		return nil, err
	}
	f, r, err := open(ctx, path)
	if err != nil {
		return nil, oci.Wrap(err, "open archive", path, oci.Descriptor{})
	}
	return &layout.Images{Reader: r, Ref: ref, Warn: env.Warnf, Done: f.Close}, nil
}

// open opens the archive at path. The error matches [oci.ErrUsage] if it is no
// layout.
func open(ctx context.Context, path string) (*tarfile.File, *layout.Reader, error) {
	f, err := tarfile.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	r := &layout.Reader{Path: path, Files: layout.Archive(f)}
	if !f.Has(layout.MarkerFile) && f.Has(dockerFile) {
		err = oci.Usage(fmt.Sprintf("%s is an archive of docker save: use tar://", path))
	} else {
		err = r.CheckMarker()
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, r, nil
}

// dockerFile makes an archive one of docker save's.
const dockerFile = "manifest.json"

func target(ctx context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	var name *oci.Ref
	if ref != "" {
		r, ok := layout.ParseName(ref)
		if !ok {
			return nil, oci.Usage(fmt.Sprintf("%s: %q is no reference: write PATH:host/repository:tag or PATH:tag", u, ref))
		}
		name = &r
	}
	compression, err := backend.Compression(u, env)
	if err != nil {
		return nil, err
	}
	p := newPlace(path, name, compression)
	if err := p.load(ctx); err != nil {
		return nil, oci.Wrap(err, "open archive", path, oci.Descriptor{})
	}
	return p, nil
}

// checkTarget returns an error matching [oci.ErrUsage] if what is at path is
// nothing that images are added to; [fs.ErrNotExist] if there is nothing.
func checkTarget(path string) (fs.FileInfo, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case fi.IsDir():
		return nil, oci.Usage(path + " is a folder; name a file, or use ocidir://")
	case !fi.Mode().IsRegular():
		return nil, oci.Usage(path + " is a special file; name a regular file")
	case fi.Size() == 0:
		return fi, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 512)
	if _, err := io.ReadFull(f, head); err != nil || string(head[257:262]) != "ustar" {
		return nil, oci.Usage(path + " is compressed, or no tar archive, and would be overwritten; name another file")
	}
	return fi, nil
}
