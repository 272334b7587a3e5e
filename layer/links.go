package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// ErrAgain means that a hard link was met whose file the filters had dropped
// before. The pass has read the whole layer by then, so it knows all of those,
// and its next Run puts each file where its first link would be.
var ErrAgain = errors.New("layer: a hard link to a dropped file; the pass starts again")

// links keep hard links whole where filters drop or rename what they point to.
//
// A link comes behind its file, so a file that was dropped is gone when the
// link is met. Then the next run hands the file's entry to the filters under
// the name of the first link that was left, in its own place; the link itself
// is passed over, and the others point to the new name.
type links struct {
	droppers []oci.Dropper

	// What earlier runs learnt, by the clean path of a dropped file: the name of
	// the link that takes its place. takes are the clean paths of those.
	moved map[string]string
	takes map[string]bool

	// What this run knows. dropped are hashes, since a filter may drop a million.
	dropped map[uint64]struct{}
	renamed map[string]string // files: clean old path to new name
	aliases map[string]string // dropped links: clean path to clean path of their file
	learnt  map[string]string // for moved
	now     current
}

// current is the entry that the filters are at.
type current struct {
	entry  *oci.Entry
	header *tar.Header
	body   *body
	path   string // clean
	name   string // as it went in
	flag   byte
	link   string // Linkname as it went in
	out    bool
	outAs  string // name
}

func newLinks(filters []oci.EntryFilter) *links {
	l := &links{moved: map[string]string{}, takes: map[string]bool{}}
	for _, f := range filters {
		if d, ok := f.(oci.Dropper); ok {
			l.droppers = append(l.droppers, d)
		}
	}
	return l
}

// begin starts a run.
func (l *links) begin() {
	for from, to := range l.learnt {
		l.moved[from] = to
		l.takes[clean(to)] = true
	}
	l.dropped, l.renamed = map[uint64]struct{}{}, map[string]string{}
	l.aliases, l.learnt = map[string]string{}, map[string]string{}
	l.now = current{}
}

// clean gives the path of a tar name: no leading or trailing slash, no dots.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func pathHash(p string) uint64 { return maphash.String(hashSeed, p) }

// in prepares e for the filters. keep is false if e is a link that has taken
// its file's place already; changed, if e isn't as it was in the layer.
func (l *links) in(e *oci.Entry, b *body) (keep, changed bool) {
	h := e.Header
	at := clean(h.Name)
	switch {
	case h.Typeflag == tar.TypeLink && l.takes[at]:
		return false, true
	case h.Typeflag == tar.TypeLink:
		target := clean(h.Linkname)
		if to, ok := l.aliases[target]; ok {
			target, h.Linkname, changed = to, to, true
		}
		if to, ok := l.placeOf(target); ok {
			h.Linkname, changed = to, true
		}
	case h.Typeflag != tar.TypeDir:
		if to, ok := l.placeOf(at); ok {
			h.Name, changed = to, true
			at = clean(to)
		}
	}
	l.now = current{entry: e, header: h, body: b, path: at, name: h.Name, flag: h.Typeflag, link: h.Linkname}
	return true, changed
}

// placeOf gives the name that took the place of the file at path p.
func (l *links) placeOf(p string) (string, bool) {
	name, ok := l.moved[p]
	for ok {
		next, more := l.moved[clean(name)]
		if !more {
			break
		}
		name = next
	}
	return name, ok
}

// done looks at what became of the entry of in.
func (l *links) done() {
	now := &l.now
	switch {
	case now.entry == nil || now.flag == tar.TypeDir:
	case now.out:
		delete(l.renamed, now.path)
		if now.outAs != now.name && clean(now.outAs) != now.path {
			l.renamed[now.path] = now.outAs
		}
	case now.flag == tar.TypeLink:
		l.aliases[now.path] = clean(now.link)
	default:
		l.dropped[pathHash(now.path)] = struct{}{}
		delete(l.renamed, now.path)
	}
	l.now = current{}
}

// out looks at an entry that comes out of the filters. A hard link whose file
// was renamed is mended; one whose file was dropped is learnt.
func (l *links) out(e *oci.Entry) error {
	h, at := e.Header, clean(e.Header.Name)
	now := &l.now
	mine := now.entry != nil && (e == now.entry || h == now.header || at == now.path || e.Body == now.body)
	if mine && !now.out {
		now.out, now.outAs = true, h.Name
	}
	if h.Typeflag != tar.TypeLink {
		if len(l.dropped) > 0 {
			delete(l.dropped, pathHash(at)) // there again
		}
		if len(l.aliases) > 0 {
			delete(l.aliases, at)
		}
		return nil
	}
	target := clean(h.Linkname)
	if to, ok := l.renamed[target]; ok {
		if mine && h.Linkname == now.link { // else the filter has seen to it
			c := *h
			c.Linkname = to
			e.Header = &c
		}
		return nil
	}
	if _, ok := l.dropped[pathHash(target)]; ok {
		if !mine {
			return fmt.Errorf("layer: %w: a filter adds the hard link %q to %q, which is dropped", oci.ErrInvalid, h.Name, h.Linkname)
		}
		if _, ok := l.learnt[target]; !ok {
			l.learnt[target] = now.name
		}
		return nil
	}
	for _, d := range l.droppers {
		if d.Drops(target) {
			return fmt.Errorf("layer: %w: %q is a hard link to %q, which is in a lower layer and is dropped there", oci.ErrInvalid, h.Name, h.Linkname)
		}
	}
	return nil
}

// again reports whether another run is needed.
func (l *links) again() bool { return len(l.learnt) > 0 }
