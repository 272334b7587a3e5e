package ociarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Finish writes the archive anew, if what was committed changes it. The error
// matches [oci.ErrRefused] if another program has changed the file meanwhile.
func (p *place) Finish(ctx context.Context) error {
	return oci.Wrap(p.finish(ctx), "write archive", p.path, oci.Descriptor{})
}

func (p *place) finish(ctx context.Context) (err error) {
	p.mu.Lock()
	names := slices.Clone(p.names)
	p.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	if err := p.begin(); err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	defer root.Close()
	lock, err := lockfile.Acquire(ctx, root, "."+filepath.Base(p.path)+".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	if is, err := os.Stat(p.path); !same(is, p.was) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := p.load(ctx); err != nil { // another run has finished meanwhile
			return err
		}
	}
	list, changed, err := p.content(ctx, names)
	if err != nil {
		return err
	}
	if !changed {
		return p.verify(ctx, p.reader, names)
	}
	return p.replace(ctx, list, names)
}

// same reports whether a and b are one file in one state; nil is no file.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// replace writes the archive and has it read back before it gets its name.
func (p *place) replace(ctx context.Context, list []member, names []naming) error {
	var written *tarfile.File
	err := stage.Replace(p.path, p.was, func(f *os.File) error {
		if p.was != nil {
			if err := f.Chmod(p.was.Mode().Perm()); err != nil {
				return err
			}
		}
		if err := join(ctx, f, list); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		// Its own descriptor: Replace closes f.
		again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return err
		}
		if written, err = tarfile.Index(ctx, again, p.path); err != nil {
			return err
		}
		return p.verify(ctx, &layout.Reader{Path: p.path, Files: layout.Archive(written)}, names)
	})
	if err != nil {
		return errors.Join(err, shut(written))
	}
	return p.finished(written)
}

// verify reads back what was asked for.
func (p *place) verify(ctx context.Context, r *layout.Reader, names []naming) error {
	var whole sync.Map
	for _, n := range names {
		if !n.check {
			continue
		}
		if err := (&layout.Named{Reader: r, Name: n.name, Whole: &whole}).Verify(ctx, n.desc, n.full); err != nil {
			return err
		}
	}
	return nil
}

// finished takes the archive as it is now for the one that is there.
func (p *place) finished(written *tarfile.File) error {
	was, err := os.Stat(p.path)
	if err != nil {
		return errors.Join(err, written.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = shut(p.old)
	p.was, p.old, p.files = was, written, layout.Archive(written)
	p.names, p.blobs = nil, map[string]put{}
	return errors.Join(err, p.spool.Close())
}
