package ociarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// place is an archive that is written to.
type place struct {
	path        string   // behind links
	name        *oci.Ref // from the URI: the one image; nil for any number
	compression string
	reader      *layout.Reader // of what the archive is to be: now and after Finish
	spool       *spool.Lanes
	whole       sync.Map // digests of blobs that this run has read back

	mu    sync.Mutex
	begun bool
	was   fs.FileInfo    // of old; nil if there is no file
	old   *tarfile.File  // nil if there is none, or an empty one
	files layout.Files   // of old, likewise
	index *layout.Index  // what index.json is to be
	names []naming       // that were committed
	blobs map[string]put // by name in the archive: that were put
}

// naming is a name and what it is to mean.
type naming struct {
	name  string
	desc  oci.Descriptor
	check bool // read it back
	full  bool // with every blob
}

// put is a blob that was put.
type put struct {
	desc    oci.Descriptor
	section *spool.Section
}

func newPlace(path string, name *oci.Ref, compression string) *place {
	path = stage.Behind(path)
	p := &place{path: path, name: name, compression: compression, blobs: map[string]put{},
		spool: &spool.Lanes{Dir: filepath.Dir(path), What: "blobs of " + path}}
	p.reader = &layout.Reader{Path: path, Files: &files{p}}
	return p
}

// load reads the archive that is there, if another is than before, and adds to
// its names those that were committed.
func (p *place) load(ctx context.Context) error {
	was, err := checkTarget(p.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var old *tarfile.File
	var in layout.Files
	index := layout.NewIndex()
	if was != nil && was.Size() > 0 {
		var r *layout.Reader
		if old, r, err = open(ctx, p.path); err != nil {
			return err
		}
		if old.Has(dockerFile) {
			return errors.Join(oci.Usage(fmt.Sprintf("%s is an archive of docker save too, which would lose that by it; name another file", p.path)), old.Close())
		}
		if index, err = r.Index(); err != nil {
			return errors.Join(safepath.Missing(err), old.Close())
		}
		in = r.Files
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	index = index.Clone()
	for _, n := range p.names {
		if _, err := index.Set(n.name, n.desc); err != nil {
			return errors.Join(err, shut(old))
		}
	}
	err = shut(p.old)
	p.was, p.old, p.files, p.index = was, old, in, index
	return err
}

func shut(f *tarfile.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// Traits: a path with REF takes one image.
func (p *place) Traits() oci.Traits {
	return oci.Traits{Many: p.name == nil, Index: true, Late: true, Compression: p.compression}
}

// SharedBlobs makes it an [oci.Shelf].
func (p *place) SharedBlobs() bool { return true }

// Image opens the destination of name. The REF of the URI, if there is one,
// takes its place.
func (p *place) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	if p.name != nil {
		name = *p.name
	}
	s := layout.RefName(name)
	if s == "" {
		return nil, oci.Usage(fmt.Sprintf("%s: an image without a name; write oci-archive://PATH:REF", p.path))
	}
	return &destination{layout.Named{Reader: p.reader, Name: s, Whole: &p.whole}, p}, nil
}

// Close lets go of what was not finished.
func (p *place) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(p.spool.Close(), shut(p.old))
	p.old, p.files, p.blobs = nil, nil, map[string]put{}
	return oci.Wrap(err, "close archive", p.path, oci.Descriptor{})
}
