package ocidir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is ocidir://PATH[:REF][?compression=zstd].
var Kind = backend.Kind{
	Scheme:  "ocidir",
	Help:    "OCI image layout in a folder, of one image or many: ocidir://PATH[:REF]",
	Options: map[string]string{backend.CompressionOption: backend.CompressionHelp},
	Path:    true,
	Source:  source,
	Target:  target,
}

func source(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	path, ref, err := u.Path()
	if err == nil {
		err = backend.NoCompression(u)
	}
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
		return nil, openError(path, oci.Usage(path+" is a file; name a folder"))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if err := checkLayout(root); err != nil {
		return nil, errors.Join(openError(path, err), root.Close())
	}
	f := newFolder(func() (*os.Root, error) { return root, nil })
	return &layout.Images{Reader: &layout.Reader{Path: path, Files: f}, Ref: ref, Warn: env.Warnf, Done: func() error {
		f.index.Close()
		return root.Close()
	}}, nil
}

func openError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: there is no such folder", oci.ErrNotFound)
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return oci.Wrap(err, "open layout", path, oci.Descriptor{})
}

// checkLayout returns an error matching [oci.ErrUsage] if root has no
// oci-layout file.
func checkLayout(root *os.Root) error {
	return (&layout.Reader{Path: root.Name(), Files: newFolder(func() (*os.Root, error) { return root, nil })}).CheckMarker()
}

func target(ctx context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	compression, err := backend.Compression(u, env)
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
	st, err := stage.Open(path, prepare)
	if err != nil {
		return nil, oci.Wrap(err, "open layout", path, oci.Descriptor{})
	}
	if root, err := st.Root(); err == nil {
		if _, err := checkTarget(root); err != nil {
			return nil, errors.Join(oci.Wrap(err, "open layout", path, oci.Descriptor{}), st.Close())
		}
	}
	return newTarget(st, name, compression), nil
}

// prepare makes an empty folder a layout. The marker comes first: with it,
// a run that dies here leaves something that the next one takes for a layout.
func prepare(root *os.Root, write func(string, []byte) error) error {
	isLayout, err := checkTarget(root)
	if err != nil {
		return err
	}
	if !isLayout {
		if err := write(layout.MarkerFile, layout.Marker()); err != nil {
			return err
		}
	}
	if err := root.MkdirAll(layout.BlobFolder+"/sha256", 0o755); err != nil {
		return err
	}
	if _, err := root.Lstat(layout.IndexFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw, err := layout.NewIndex().Marshal()
	if err != nil {
		return err
	}
	return write(layout.IndexFile, raw)
}

// checkTarget reports whether root is a layout. A folder that is none and not
// empty either is an error matching [oci.ErrUsage].
func checkTarget(root *os.Root) (isLayout bool, err error) {
	// In this order: another process may be making it a layout, marker first.
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return false, err
	}
	if _, err := root.Lstat(layout.MarkerFile); err == nil {
		return true, checkLayout(root)
	}
	for _, e := range entries {
		if e.Name() != stage.Folder {
			return false, oci.Usage(fmt.Sprintf("%s is neither empty nor an OCI layout (it has %q and no file %s); name another folder",
				root.Name(), e.Name(), layout.MarkerFile))
		}
	}
	return false, nil
}
