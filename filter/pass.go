package filter

import (
	"archive/tar"
	"maps"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A sink is a pass of a filter that needs one function only.
type sink struct {
	next oci.Sink
	put  func(e *oci.Entry) error
}

func (s sink) Put(e *oci.Entry) error { return s.put(e) }
func (s sink) Close() error           { return s.next.Close() }

// clean gives the path that a tar name means: no leading slash or dot, no
// trailing slash; "" for the root.
func clean(name string) string { return path.Clean("/" + name)[1:] }

// edited gives a copy of e whose header, records included, can be changed.
func edited(e *oci.Entry) *oci.Entry {
	h := *e.Header
	h.PAXRecords = maps.Clone(h.PAXRecords)
	h.Xattrs = maps.Clone(h.Xattrs) //nolint:staticcheck // the reader fills it, and the writer reads it
	return &oci.Entry{Header: &h, Body: e.Body}
}

// Whiteouts, as the image specification's layer.md names them.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // of markers that name no file: .wh..wh..opq and old aufs ones
)

// target gives the path that the entry at p, a clean path, speaks of: for a
// whiteout what it hides, for a marker of a directory the directory.
func target(p string) string {
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case strings.HasPrefix(base, metaPrefix):
		return dir
	case strings.HasPrefix(base, whiteoutPrefix) && base != whiteoutPrefix:
		return path.Join(dir, base[len(whiteoutPrefix):])
	}
	return p
}

// dropRecords removes records from h, which is edited.
func dropRecords(h *tar.Header, names ...string) {
	for _, n := range names {
		delete(h.PAXRecords, n)
	}
}
