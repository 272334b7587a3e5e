package ociarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A member is a file, or a folder, of the archive that is to be.
type member struct {
	name string                            // a folder's ends with a slash
	open func() (*io.SectionReader, error) // nil of a folder
	free func()                            // gives its space back when it is copied; nil if that is not ours
}

// content lists what is to be in the archive, in order, and reports whether that
// is other than what is there: index.json, and what its entries lead to. Where
// something that others named can't be read to its end, all blobs that are
// there are kept.
func (p *place) content(ctx context.Context, names []naming) (list []member, changed bool, err error) {
	index, err := p.reader.Index()
	if err != nil {
		return nil, false, err
	}
	raw, err := index.Marshal()
	if err != nil {
		return nil, false, err
	}
	if len(raw) > layout.MaxIndexSize {
		return nil, false, fmt.Errorf("%s: %w: over %d bytes; use several archives", layout.IndexFile, oci.ErrTooLarge, layout.MaxIndexSize)
	}
	reached, err := p.reached(ctx, index, names)
	if err != nil {
		return nil, false, err
	}
	if changed, err = p.otherIndex(raw); err != nil {
		return nil, false, err
	}
	folders := map[string]bool{layout.BlobFolder + "/": true}
	var blobs []member
	for _, name := range slices.Sorted(maps.Keys(reached)) {
		m, there, isNew, err := p.member(ctx, name)
		if err != nil {
			return nil, false, err
		}
		if there {
			blobs, changed = append(blobs, m), changed || isNew
			folders[path.Dir(name)+"/"] = true
		}
	}
	list = []member{inMemory(layout.MarkerFile, layout.Marker()), inMemory(layout.IndexFile, raw)}
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		list = append(list, member{name: name})
	}
	return append(list, blobs...), changed, nil
}

func inMemory(name string, raw []byte) member {
	return member{name: name, open: func() (*io.SectionReader, error) {
		return io.NewSectionReader(bytes.NewReader(raw), 0, int64(len(raw))), nil
	}}
}

// reached gives the names of all blobs that index leads to.
func (p *place) reached(ctx context.Context, index *layout.Index, names []naming) (map[string]bool, error) {
	ours := map[string]bool{}
	for _, n := range names {
		ours[n.name] = true
	}
	reached := map[string]bool{}
	for _, d := range index.Entries() {
		mine := ours[d.Annotations[layout.RefAnnotation]]
		err := p.reader.Reach(ctx, d, func(b oci.Descriptor) error {
			reached[layout.BlobPath(b.Digest)] = true
			if !mine {
				return nil
			}
			return p.reader.Stat(b)
		})
		if err != nil && (mine || !layout.Damaged(err)) {
			return nil, err
		}
		if err != nil && p.old != nil {
			for name := range p.old.Names() {
				if isBlob(name) {
					reached[name] = true
				}
			}
		}
	}
	return reached, nil
}

// isBlob reports whether name is that of a blob.
func isBlob(name string) bool {
	algorithm, hex, ok := strings.Cut(strings.TrimPrefix(name, layout.BlobFolder+"/"), "/")
	return ok && strings.HasPrefix(name, layout.BlobFolder+"/") && oci.ValidDigest(oci.Digest(algorithm+":"+hex)) == nil
}

// otherIndex reports whether raw says something else than the index.json that is
// there.
func (p *place) otherIndex(raw []byte) (bool, error) {
	if p.files == nil {
		return true, nil
	}
	was, err := p.files.Index()
	if err != nil {
		return false, err
	}
	old, err := was.Marshal()
	return string(old) != string(raw), err
}

// member gives the blob called name, as it was put or as it is there, if it is.
// isNew says that the archive hasn't got it yet, or not its bytes.
func (p *place) member(ctx context.Context, name string) (m member, there, isNew bool, err error) {
	b, ok, old := (&files{p}).find(name)
	if !ok {
		if p.old == nil {
			return m, false, false, nil
		}
		in, err := p.old.Lookup(name)
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrInvalid) {
			return m, false, false, nil // a foreign layer, or another program's loss
		}
		return member{name: name, open: func() (*io.SectionReader, error) { return in.Open(), nil }}, true, false, err
	}
	m = member{name: name, open: b.section.Open, free: b.section.Free}
	if old == nil {
		return m, true, true, nil
	}
	// What is there with its size was put again because it is damaged, or it is a
	// manifest.
	rc, err := old.OpenBlob(ctx, name, b.desc)
	if err == nil {
		_, err = io.Copy(io.Discard, rc)
		err = errors.Join(err, rc.Close())
	}
	if err != nil && !layout.Damaged(err) {
		return m, false, false, err
	}
	return m, true, err != nil, nil
}
