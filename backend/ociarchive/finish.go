package ociarchive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

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
	release, err := stage.Exclusive(ctx, p.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	is, err := os.Stat(p.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !stage.Same(is, p.was) { // another run has finished meanwhile
		if err := p.load(ctx); err != nil {
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

// replace writes the archive and has it read back before it gets its name.
func (p *place) replace(ctx context.Context, list []member, names []naming) error {
	var written *tarfile.File
	err := stage.Replace(p.path, p.was, func(f *os.File) error {
		if err := join(ctx, f, list); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		// Its own descriptor: Replace closes f.
		again, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		if written, err = tarfile.Index(ctx, os.NewFile(uintptr(again), p.path), p.path); err != nil {
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
