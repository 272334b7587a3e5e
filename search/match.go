package search

import (
	"archive/tar"
	"cmp"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
)

// A Match is an entry that was found.
type Match struct {
	Path string // as it stands in the archive, without a slash at the end
	Link string // target of a link
	Size int64  // bytes; 0 of what has no content
	Mode int64  // permissions, with setuid, setgid and sticky: 0o4755
	UID  int
	GID  int
	flag byte // of tar
	mark filetree.Mark
	late bool // the layer itself has the path again, later
}

func newMatch(h *tar.Header) Match {
	m := Match{
		// Of its own: the header's may be part of a larger string.
		Path: strings.Clone(entryName(h)), Link: strings.Clone(h.Linkname),
		Size: h.Size, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, flag: h.Typeflag,
	}
	m.mark, _ = filetree.MarkOf(filetree.Clean(m.Path))
	return m
}

// entryName is h's name as Python's tarfile gives it.
func entryName(h *tar.Header) string {
	name := strings.TrimRight(h.Name, "/")
	if name == "" {
		return h.Name // the root, written as /
	}
	return name
}

// Type names the kind of entry: file, directory, symlink, hardlink, character
// device, block device, fifo, unknown.
func (m Match) Type() string { return oci.TypeName(m.flag) }

// Whiteout reports whether the entry is there to hide what lower layers have.
func (m Match) Whiteout() bool { return m.mark != filetree.MarkNone }

// A cover is what a layer hides of those below: for each entry a hash of its
// path, whose two lowest bits say how. Sorted.
type cover []uint64

const (
	coversDir    = iota // a directory: replaces its own entry, keeps what is in it
	coversAll           // anything else: replaces the path and what is below it
	coversGone          // a whiteout: removes both
	coversOpaque        // removes what is below
	coverBits    = 3
)

func (c cover) seal() cover {
	slices.Sort(c)
	return slices.Clip(slices.Compact(c))
}

// has reports whether c has an entry of hash, and one of the kinds.
func (c cover) has(hash uint64, kinds ...uint64) bool {
	i, _ := slices.BinarySearchFunc(c, hash&^coverBits, func(e, h uint64) int { return cmp.Compare(e&^coverBits, h) })
	for ; i < len(c) && c[i]&^coverBits == hash&^coverBits; i++ {
		if slices.Contains(kinds, c[i]&coverBits) {
			return true
		}
	}
	return false
}
