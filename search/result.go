package search

import (
	"iter"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
)

// A Result is what was found in one image.
type Result struct {
	filetree.Image
	// Config is nil unless [Query.Details] was asked for, and where it can't be
	// read.
	Config *filetree.Config
	// Failed are the layers, and the config, that couldn't be read. Each error is
	// an [*oci.Error] that names image and blob. What it hides isn't known.
	Failed []error

	query  *Query
	hash   func(string) uint64
	layers []*found // nil for what wasn't read
}

// A Layer is what was found in one layer of an image.
type Layer struct {
	Digest oci.Digest
	DiffID oci.Digest // "" unless [Query.Details] was asked for
	result *Result
	index  int
}

// Found gives the layers in which something was found, lowest first.
func (r *Result) Found() iter.Seq[Layer] {
	return func(yield func(Layer) bool) {
		for i, f := range r.layers {
			l := Layer{Digest: r.Image.Layers[i].Digest, DiffID: r.Config.DiffID(i), result: r, index: i}
			if f == nil || l.empty() {
				continue
			}
			if !yield(l) {
				return
			}
		}
	}
}

func (l Layer) empty() bool {
	for range l.Matches() {
		return false
	}
	return true
}

// Matches gives what was found in the order of the archive, and of each whether
// the image hides it: a layer above replaces or removes it, or the directory
// that it is in. Whiteouts are no part of the file system, so they count as
// hidden. Unless [Query.Details] was asked for it is always false.
func (l Layer) Matches() iter.Seq2[Match, bool] {
	q := l.result.query
	return func(yield func(Match, bool) bool) {
		for _, m := range l.result.layers[l.index].matches {
			hidden := q.hides() && l.hides(m)
			if hidden && q.Visible {
				continue
			}
			if !yield(m, hidden) {
				return
			}
		}
	}
}

func (l Layer) hides(m Match) bool {
	if m.late || m.Whiteout() {
		return true
	}
	path := filetree.Clean(m.Path)
	self := l.result.hash(path)
	var above []uint64
	for dir := range filetree.Parents(path) {
		above = append(above, l.result.hash(dir))
	}
	for _, f := range l.result.layers[l.index+1:] {
		if f == nil {
			continue
		}
		if f.cover.has(self, coversDir, coversAll, coversGone) {
			return true
		}
		for _, dir := range above {
			if f.cover.has(dir, coversAll, coversGone, coversOpaque) {
				return true
			}
		}
	}
	return false
}
