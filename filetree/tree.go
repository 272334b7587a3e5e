package filetree

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Touch says how layers change what is below them: for each path, how. Two
// sets of layers with equal touches show the same of what is below both.
type Touch map[string]touch

type touch uint8

const (
	touchSelf  touch = 1 << iota // there is an entry: what was there is replaced
	touchBelow                   // and what was below it is gone
	touchLink                    // a hard link needs to know what is there
)

// TouchOf gives what layers touch.
func TouchOf(layers []*Listing) Touch {
	t := Touch{}
	for _, l := range layers {
		for _, e := range l.entries {
			switch {
			case e.mark == MarkOpaque:
				t[e.path] |= touchBelow
			case e.mark == MarkWhiteout, e.Type != "directory":
				t[e.path] |= touchSelf | touchBelow
			default:
				t[e.path] |= touchSelf
			}
			if e.Type == "hardlink" {
				t[Clean(e.Link)] |= touchLink
			}
		}
	}
	return t
}

// Equal reports whether t and u are the same.
func (t Touch) Equal(u Touch) bool { return maps.Equal(t, u) }

// Add adds what u touches.
func (t Touch) Add(u Touch) {
	for p, how := range u {
		t[p] |= how
	}
}

// AddLinks adds the targets of the hard links in layers that t has, so that
// these are the files that they are names of.
func (t Touch) AddLinks(layers []*Listing) {
	for _, l := range slices.Backward(layers) {
		for _, e := range slices.Backward(l.entries) {
			if e.Type == "hardlink" && t.has(e.path) {
				t[Clean(e.Link)] |= touchLink
			}
		}
	}
}

// has reports whether what is at path matters to who is touched.
func (t Touch) has(path string) bool {
	if t[path] != 0 {
		return true
	}
	for dir := range Parents(path) {
		if t[dir]&touchBelow != 0 {
			return true
		}
	}
	return false
}

// maxNodes bounds the paths of a tree: 5 million, some 100 times a large image's.
const maxNodes = 5_000_000

// A Tree is a file system. The zero value is empty.
type Tree struct {
	root  node
	nodes int
}

type node struct {
	*File // nil of a directory that no entry speaks of
	below map[string]*node
}

// Merge lays layers on each other, lowest first. Of the first base of them only
// what touched needs is kept; nil keeps all. It returns an error matching
// [oci.ErrTooLarge] for more than 5 million paths.
func Merge(layers []*Listing, base int, touched Touch) (*Tree, error) {
	t := &Tree{}
	for i, l := range layers {
		keep := func(path string) bool { return i >= base || touched == nil || touched.has(path) }
		if err := t.apply(l, keep); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// apply lays l on t. Its marks are about the layers below, wherever in it they
// stand.
func (t *Tree) apply(l *Listing, keep func(string) bool) error {
	for _, e := range l.entries {
		switch e.mark {
		case MarkWhiteout:
			t.remove(e.path)
		case MarkOpaque:
			if n := t.find(e.path); n != nil {
				n.below = nil
			}
		}
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.mark != MarkNone {
			continue
		}
		f := &e.File
		if f.Type == "hardlink" {
			if n := t.find(Clean(f.Link)); n != nil && n.File != nil {
				f = n.File // one file of two names
			}
		}
		if !keep(e.path) {
			if n := t.find(e.path); n != nil && f.Type != "directory" {
				n.below = nil
			}
			continue
		}
		n := t.make(e.path)
		if n.File = f; f.Type != "directory" {
			n.below = nil
		}
		if t.nodes > maxNodes {
			return fmt.Errorf("file system: %w: over %d paths", oci.ErrTooLarge, maxNodes)
		}
	}
	return nil
}

// find gives the node at path, nil if there is none.
func (t *Tree) find(path string) *node {
	n := &t.root
	for part := range parts(path) {
		if n = n.below[part]; n == nil {
			return nil
		}
	}
	return n
}

func (t *Tree) make(path string) *node {
	n := &t.root
	for part := range parts(path) {
		next := n.below[part]
		if next == nil {
			if n.below == nil {
				n.below = map[string]*node{}
			}
			next = &node{}
			n.below[part] = next
			t.nodes++
		}
		n = next
	}
	return n
}

func (t *Tree) remove(path string) {
	if path == "" {
		t.root = node{}
		return
	}
	i := strings.LastIndexByte(path, '/')
	if n := t.find(path[:max(i, 0)]); n != nil {
		delete(n.below, path[i+1:])
	}
}

// parts gives the parts of a clean path, none of the root.
func parts(path string) iter.Seq[string] {
	if path == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(path, "/")
}

// All gives the paths of t and what is there, sorted part by part.
func (t *Tree) All() iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		for path, pair := range Union(t, &Tree{}) {
			if !yield(path, *pair[0]) {
				return
			}
		}
	}
}

// Union gives the paths that a or b has, sorted part by part, and what each has
// there; nil is nothing.
func Union(a, b *Tree) iter.Seq2[string, [2]*File] {
	return func(yield func(string, [2]*File) bool) { union("", &a.root, &b.root, yield) }
}

var empty node

func union(path string, a, b *node, yield func(string, [2]*File) bool) bool {
	if a.File != nil || b.File != nil {
		if !yield(path, [2]*File{a.File, b.File}) {
			return false
		}
	}
	names := slices.Collect(maps.Keys(a.below))
	for name := range b.below {
		if a.below[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		x, y := a.below[name], b.below[name]
		if x == nil {
			x = &empty
		}
		if y == nil {
			y = &empty
		}
		if !union(strings.TrimPrefix(path+"/"+name, "/"), x, y, yield) {
			return false
		}
	}
	return true
}
