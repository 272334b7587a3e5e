package filetree

import (
	"iter"
	"path"
	"strings"
)

// Clean gives the path that an entry called name has in the file system: no
// slash at either end, no dots, nothing above the root, which is "".
func Clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// A Mark says what an entry does to the layers below.
type Mark int

const (
	// MarkNone is an entry of its own.
	MarkNone Mark = iota
	// MarkWhiteout removes the path that comes with it.
	MarkWhiteout
	// MarkOpaque removes what the layers below have in the directory that comes
	// with it.
	MarkOpaque
	// MarkOther is bookkeeping of a storage driver (.wh..wh.plnk): nothing.
	MarkOther
)

const whiteout = ".wh."

// MarkOf gives the mark of the entry at p, a clean path, and which path it is about.
func MarkOf(p string) (Mark, string) {
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	name, ok := strings.CutPrefix(base, whiteout)
	switch {
	case !ok:
		return MarkNone, p
	case name == whiteout+".opq":
		return MarkOpaque, dir
	case name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteout):
		return MarkOther, p
	}
	return MarkWhiteout, path.Join(dir, name)
}

// Parents gives the directories above p, a clean path, nearest first; the root,
// "", comes last.
func Parents(p string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for p != "" {
			p = p[:max(strings.LastIndexByte(p, '/'), 0)]
			if !yield(p) {
				return
			}
		}
	}
}
