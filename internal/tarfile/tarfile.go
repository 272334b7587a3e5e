package tarfile

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Limits of an index, which is kept in memory.
const (
	maxMembers = 1_000_000
	maxName    = 4096     // bytes
	maxNames   = 64 << 20 // bytes of all names and link targets
	maxLinks   = 16       // links that lead to one member
)

// A File is an open archive. It is safe for concurrent use.
type File struct {
	name    string
	f       *os.File
	size    int64
	order   []string // clean names as they first appear
	members map[string]*entry
}

// entry is what the index has of a name.
type entry struct {
	kind   byte // a tar type; sparse files are tar.TypeGNUSparse
	copies int
	off    int64
	size   int64
	link   string // as it is written
}

// A Member is a regular file in an archive.
type Member struct {
	Name   string // clean, of the file itself, behind any links
	Size   int64  // bytes
	Copies int    // how many members have the name; the last one is what counts
	r      io.ReaderAt
	off    int64
}

// Open gives the member's bytes, a reader of its own with each call.
func (m Member) Open() *io.SectionReader { return io.NewSectionReader(m.r, m.off, m.Size) }

// Path gives the archive's name, as it was opened.
func (a *File) Path() string { return a.name }

// Names lists files and links in the order in which they first appear, without
// folders.
func (a *File) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range a.order {
			if !yield(name) {
				return
			}
		}
	}
}

// Has reports whether there is a file or link called name.
func (a *File) Has(name string) bool {
	key, ok := clean(name)
	return ok && a.members[key] != nil
}

// Lookup gives the regular file called name, a slash-separated path. Symbolic
// and hard links are followed. Errors name the archive and match
// [oci.ErrNotFound], [oci.ErrInvalid] for links that loop or lead out of the
// archive and for what is no file, [oci.ErrUnsupported] for a sparse file.
func (a *File) Lookup(name string) (Member, error) {
	m, err := a.lookup(name)
	return m, oci.Wrap(err, fmt.Sprintf("look up %.200q in", name), a.name, oci.Descriptor{})
}

func (a *File) lookup(name string) (Member, error) {
	key, ok := clean(name)
	if !ok {
		return Member{}, fmt.Errorf("%w: the name leads out of the archive", oci.ErrInvalid)
	}
	for range maxLinks {
		e := a.members[key]
		if e == nil {
			return Member{}, fmt.Errorf("%w: there is no member %.200q", oci.ErrNotFound, key)
		}
		switch e.kind {
		case tar.TypeReg:
			return Member{Name: key, Size: e.size, Copies: e.copies, r: a.f, off: e.off}, nil
		case tar.TypeGNUSparse:
			return Member{}, fmt.Errorf("%.200q: %w: a sparse file; pack the archive without tar's -S", key, oci.ErrUnsupported)
		case tar.TypeSymlink:
			if path.IsAbs(e.link) {
				return Member{}, fmt.Errorf("%w: link %.200q leads out of the archive", oci.ErrInvalid, key)
			}
			key, ok = clean(path.Join(path.Dir(key), e.link))
		case tar.TypeLink:
			key, ok = clean(e.link)
		default:
			return Member{}, fmt.Errorf("%.200q: %w: a special file", key, oci.ErrInvalid)
		}
		if !ok {
			return Member{}, fmt.Errorf("%w: link %.200q leads out of the archive", oci.ErrInvalid, e.link)
		}
	}
	return Member{}, fmt.Errorf("%w: over %d links to one file", oci.ErrInvalid, maxLinks)
}

// ReadFile reads the regular file called name, as [File.Lookup] finds it. Over
// limit bytes it returns an error matching [oci.ErrTooLarge].
func (a *File) ReadFile(name string, limit int64) ([]byte, error) {
	m, err := a.Lookup(name)
	if err != nil {
		return nil, err
	}
	if m.Size > limit {
		return nil, oci.Wrap(fmt.Errorf("%.200q: %w: %d bytes, at most %d are read", name, oci.ErrTooLarge, m.Size, limit), "read", a.name, oci.Descriptor{})
	}
	raw := make([]byte, m.Size)
	if _, err := io.ReadFull(m.Open(), raw); err != nil {
		return nil, oci.Wrap(fmt.Errorf("%.200q: %w", name, err), "read", a.name, oci.Descriptor{})
	}
	return raw, nil
}

// Close closes the archive, and with it what its members opened.
func (a *File) Close() error { return a.f.Close() }

// clean gives the key that name has in the index. false: it leads out of the
// archive, or names its top.
func clean(name string) (string, bool) {
	name = path.Clean(strings.TrimLeft(name, "/"))
	return name, name != "." && name != ".." && !strings.HasPrefix(name, "../")
}

// errTruncated is for archives that end too early.
var errTruncated = errors.New("the archive is truncated")
