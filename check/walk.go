package check

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// facts are what was learnt of a blob whose bytes are those of its digest. They
// are the same in whatever image.
type facts struct {
	size   int64
	codec  layer.Codec // "" if it has none of ours
	diffID oci.Digest  // "" if the tar can't be had
	notes  []note
	paths  *paths // nil where the entries aren't known
	links  []link // whose targets the layer doesn't have
}

// weight is about how many bytes f takes.
func (f *facts) weight() int64 {
	n := int64(512)
	for _, o := range f.notes {
		n += int64(64 + len(o.text))
	}
	for _, l := range f.links {
		n += int64(48 + len(l.name) + len(l.target))
	}
	if f.paths != nil {
		n += f.paths.weight()
	}
	return n
}

// A note is a result that doesn't name its layer yet.
type note struct {
	severity Severity
	id, text string
}

// A link is a hard link into a lower layer.
type link struct{ name, target string }

// maxShown is how many findings of a kind are told one by one, as occystrap does.
const maxShown = 10

// maxLinks is how many links into lower layers are followed: docker makes none.
const maxLinks = 10_000

// A walk reads the tar of one layer.
type walk struct {
	*facts
	most   int // entries
	number int // of entries so far
	counts map[string]int
	before map[uint64]bool // paths so far
	hidden []string        // targets of whiteouts
}

func (w *walk) note(s Severity, id, format string, args ...any) {
	if w.counts[id]++; w.counts[id] <= maxShown {
		w.notes = append(w.notes, note{s, id, strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")})
	}
}

// errTooMany ends a walk over more entries than [Options.MaxEntries].
var errTooMany = errors.New("too many entries")

// walk reads the layer blob r to its end. An error is one of reading it; what
// is wrong with the content is in the facts.
func (c *Checker) walk(ctx context.Context, r io.Reader) (*facts, error) {
	raw := &tap{ctx: ctx, r: r}
	w := &walk{facts: &facts{}, most: c.opt.MaxEntries, counts: map[string]int{}, before: map[uint64]bool{}}
	w.paths = &paths{seed: c.seed, hides: map[uint64]bool{}, opaque: map[uint64]bool{}}
	err := w.open(ctx, raw, c.opt.Layer)
	if raw.err == nil {
		_, _ = io.Copy(io.Discard, raw) // to its digest; raw keeps the error
	}
	if raw.err != nil {
		return nil, raw.err
	}
	if w.size = raw.n; err != nil {
		w.undo(err)
	}
	w.finish()
	return w.facts, nil
}

// open decompresses raw. It returns why that failed.
func (w *walk) open(ctx context.Context, raw *tap, opt layer.Options) error {
	lr, err := layer.Open(raw, opt)
	if err != nil {
		return err
	}
	defer lr.Close()
	w.codec = lr.Codec()
	t := &tap{ctx: ctx, r: lr, hash: digest.SHA256.Hash()}
	if err := w.tar(t); err != nil && t.err == nil {
		if errors.Is(err, errTooMany) {
			return err
		}
		w.note(Error, "tar-format", "not a whole tar after %d entries: %v", w.number, err)
		w.paths = nil
	}
	if t.err == nil {
		_, _ = io.Copy(io.Discard, t) // to its end; t keeps the error
	}
	if t.err == nil {
		w.diffID = digest.NewDigest(digest.SHA256, t.hash)
	}
	return t.err
}

// undo replaces what was found of the entries by err, which kept them from
// being read to their end.
func (w *walk) undo(err error) {
	w.notes, w.paths, w.counts = nil, nil, map[string]int{}
	switch {
	case errors.Is(err, errTooMany):
		w.note(Error, "layer-limits", "more than %d entries", w.most)
	case errors.Is(err, oci.ErrTooLarge):
		w.note(Error, "layer-limits", "%v", err)
	case errors.Is(err, oci.ErrUnsupported):
		w.note(Error, "layer-media-type", "%v", err)
	default:
		w.note(Error, "layer-compression", "%v", err)
	}
}

// tar reads the entries, and then what is behind their end.
func (w *walk) tar(t *tap) error {
	tr := tar.NewReader(t)
	start, known := int64(0), true // where the next header must stand, if that is known
	for {
		h, err := tr.Next()
		if err == io.EOF {
			switch ended := t.n >= start+blockSize && t.zeros >= blockSize; {
			case known && !ended && t.n > start: // archive/tar forgives a cut behind a PAX header
				return io.ErrUnexpectedEOF
			case known && !ended: // at most the padding in front of it is missing too
				w.note(Warning, "tar-end", "the tar has no end marker after %d entries", w.number)
			}
			return w.trail(t)
		}
		if err != nil {
			return err
		}
		if w.number++; w.number > w.most {
			return errTooMany
		}
		start, known, t.zeros = t.n+bodySize(h), !isSparse(h), 0
		if h.Typeflag != tar.TypeXGlobalHeader {
			w.entry(h)
		}
	}
}

// blockSize is a tar's.
const blockSize = 512

// bodySize is how many bytes of the archive h's body takes. Links, folders and
// devices have none, whatever they say.
func bodySize(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return 0
	}
	return (h.Size + blockSize - 1) / blockSize * blockSize
}

// isSparse reports whether h's body is shorter in the archive than h.Size.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// trail reads what is behind the end marker, where only zeros may be.
func (w *walk) trail(t *tap) error {
	buf, zeros := make([]byte, 32<<10), make([]byte, 32<<10)
	for told := false; ; {
		n, err := t.Read(buf)
		if !told && !bytes.Equal(buf[:n], zeros[:n]) {
			told = true
			w.note(Warning, "tar-end", "there is more behind the end of the tar, which some readers take for entries")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// clean gives name as a path from the root. false: it climbs out of it.
func clean(name string) (string, bool) {
	depth, inside := 0, true
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
			inside = inside && depth >= 0
		default:
			depth++
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), inside
}

// entry looks at one entry.
func (w *walk) entry(h *tar.Header) {
	p, inside := clean(h.Name)
	shown := cut(h.Name)
	if !inside {
		w.note(Error, "tar-path", "%s climbs out of the root", shown)
	}
	if h.ModTime.Unix() < 0 {
		w.note(Error, "tar-timestamp", "%s is of %s", shown, h.ModTime.UTC().Format("2006-01-02"))
	}
	if h.Typeflag != tar.TypeSymlink && h.Mode&0o6000 != 0 && h.Mode&0o002 != 0 {
		w.note(Warning, "tar-permissions", "%s has mode %04o", shown, h.Mode&0o7777)
	}
	if base := path.Base(p); strings.HasPrefix(base, whiteout) {
		w.whiteout(h, p, base)
		return
	}
	kind := other
	switch h.Typeflag {
	case tar.TypeLink:
		kind = w.link(h, p)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		kind = file
	case tar.TypeSymlink:
		kind = symlink
	}
	w.before[w.paths.hash(p)] = true
	w.paths.add(p, kind)
}

// link looks at a hard link at p and gives what is there then.
func (w *walk) link(h *tar.Header, p string) sort {
	target, inside := clean(h.Linkname)
	if !inside {
		w.note(Error, "tar-path", "%s links to %s, out of the root", cut(h.Name), cut(h.Linkname))
		return file
	}
	if !w.before[w.paths.hash(target)] && len(w.links) < maxLinks && len(target) < 4096 {
		w.links = append(w.links, link{cut(p), target})
	}
	return file
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// reserved begins the names that AUFS kept for itself; nobody takes them
	// for whiteouts.
	reserved = ".wh..wh."
)

// whiteout looks at an entry that is one by its name.
func (w *walk) whiteout(h *tar.Header, p, base string) {
	dir := strings.TrimSuffix(strings.TrimSuffix(p, base), "/")
	target := strings.TrimPrefix(base, whiteout)
	switch {
	case base == opaque:
		w.paths.opaque[w.paths.hash(dir)] = true
	case strings.HasPrefix(base, reserved):
		return
	case target == "" || target == "." || target == "..":
		w.note(Error, "whiteout", "%s hides nothing that has a name", cut(h.Name))
		return
	default:
		target = path.Join(dir, target)
		w.paths.hides[w.paths.hash(target)] = true
		w.hidden = append(w.hidden, target[:min(len(target), 4096)])
	}
	if h.Typeflag != tar.TypeReg || h.Size > 0 {
		w.note(Warning, "whiteout-size", "%s is not an empty file (%d bytes)", cut(h.Name), h.Size)
	}
}

// finish says what needs all entries, and how many findings were left out.
func (w *walk) finish() {
	if w.paths == nil {
		w.links = nil
	} else {
		for _, target := range w.hidden {
			if w.before[w.paths.hash(target)] {
				w.note(Warning, "whiteout-same-layer", "%s is in the layer and hidden by it", cut(target))
			}
		}
		w.paths.finish()
	}
	for i, n := 0, len(w.notes); i < n; i++ {
		o := w.notes[i]
		if i+1 < n && w.notes[i+1].id == o.id {
			continue
		}
		if more := w.counts[o.id] - maxShown; more > 0 {
			w.notes = append(w.notes, note{o.severity, o.id, fmt.Sprintf("... and %d more", more)})
			w.counts[o.id] = 0
		}
	}
}

// cut makes a name from a layer short enough to be shown.
func cut(name string) string {
	if len(name) > maxName {
		return strings.ToValidUTF8(name[:maxName], "") + "..."
	}
	return name
}

// A tap counts and hashes what is read, and keeps why reading failed, since
// others say that in words of their own.
type tap struct {
	ctx  context.Context
	r    io.Reader
	n    int64
	hash hash.Hash // may be nil
	err  error     // not io.EOF
	// zeros at the end of what was read; of more than two blocks only that there
	// are more
	zeros int64
}

func (t *tap) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	if t.ctx.Err() != nil { // a bomb takes long to decompress
		t.err = context.Cause(t.ctx)
		return 0, t.err
	}
	n, err := t.r.Read(p)
	t.n += int64(n)
	tail := p[max(0, n-2*blockSize):n]
	if rest := len(bytes.TrimRight(tail, "\x00")); rest > 0 {
		t.zeros = 0
		tail = tail[rest:]
	}
	t.zeros += int64(len(tail))
	if t.hash != nil {
		_, _ = t.hash.Write(p[:n]) // a hash never fails
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
