package extract

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/umoci/pkg/fseval"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// Options say how a layer is extracted. The zero value is for one folder that
// takes all layers of an image, lowest first.
type Options struct {
	// Overlay is for a folder that takes this layer alone and is mounted by
	// overlayfs: a whiteout becomes a character device 0:0, an opaque directory
	// has the extended attribute trusted.overlay.opaque (user.overlay.opaque
	// where the user isn't root: mount with userxattr).
	Overlay bool
	// Lower are the folders of the layers below, the nearest first, with Overlay:
	// a directory that the layer has no entry for looks as it does there, and what
	// none of them has gets no whiteout (which overlayfs would list as a device).
	// nil: they are not known.
	Lower []string
	// Limits bound what the layer may grow to. The zero value is as in
	// [layer.Open].
	Limits layer.Options
	// Sums, if not nil, learns what is extracted, for [Check].
	Sums *Sums
}

// Stats say what was done.
type Stats struct {
	Tar   layer.Tar // of the layer: its digest, size and entries
	Bytes int64     // content of regular files
	// Warnings say what could not be kept.
	Warnings Warnings
}

// implied is the time of directories that no layer has an entry for.
var implied = time.Unix(0, 0).UTC()

// Layer extracts the layer r, plain tar or compressed, into the folder dir, which
// must exist. It reads r to its end.
//
// Owners, modes, times and extended attributes are kept as far as the user may:
// all by root. Others own all that they extract; the image's owners are noted in
// the attribute user.rootlesscontainers, and device nodes are empty files. What
// belongs to the host (security.selinux) is nobody's to keep. The warnings say so.
//
// ctx is looked at in each read of r. Errors are as with [layer.Walk], or of the
// file system; an entry that can't be what it says matches [oci.ErrInvalid].
func Layer(ctx context.Context, dir string, r io.Reader, opt Options) (Stats, error) {
	e, err := open(dir, opt)
	if err != nil {
		return Stats{}, err
	}
	defer e.close()
	e.stats.Tar, err = layer.Walk(ctx, r, opt.Limits, e.entry)
	if err == nil && opt.Overlay {
		err = e.finish()
	}
	if errors.Is(err, oci.ErrInvalid) && ctx.Err() == nil {
		// If r isn't what its digest says, then that is why.
		if _, why := io.Copy(io.Discard, ctxReader{ctx, r}); errors.Is(why, oci.ErrDigestMismatch) {
			err = why
		}
	}
	return e.stats, err
}

// An extractor extracts one layer.
type extractor struct {
	opt      Options
	dir      string // absolute, without links
	root     *os.Root
	lower    []*os.Root
	partsOf  string     // the directory that lowerWith looked for last,
	parts    []*os.Root // and which layers have it
	rootless bool
	fs       fseval.FsEval
	unpack   *unpacker
	buf      []byte // for contents
	steps    int64
	max      int64

	dirs   map[string]string // directories as they are written, and where they are: see dirOf
	upper  pathSet           // what this layer has put, and the directories above
	done   pathSet           // directories with nothing of lower layers in them
	over   overlay
	linked string // what the hard link at hand links to

	stats Stats
}

func open(dir string, opt Options) (*extractor, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	e := &extractor{opt: opt, dir: abs, root: root, rootless: os.Geteuid() != 0, fs: fseval.Default, max: maxEntries(opt.Limits),
		dirs: map[string]string{}, buf: make([]byte, bufSize), upper: pathSet{}, done: pathSet{}, over: newOverlay()}
	if e.rootless {
		e.fs = fseval.Rootless
	}
	e.unpack = newUnpacker(e.rootless, opt.Overlay)
	return e, nil
}

// maxEntries gives how many entries and implied directories one layer may have.
func maxEntries(l layer.Options) int64 {
	switch {
	case l.MaxEntries == 0:
		return 10_000_000
	case l.MaxEntries < 0:
		return 1<<63 - 1
	}
	return l.MaxEntries
}

// maxDepth is how deep a name may lie: each directory above is looked at for each
// entry.
const maxDepth = 512

// entry extracts one entry.
func (e *extractor) entry(in *oci.Entry) error {
	name := in.Header.Name
	if err := e.visit(in); err != nil {
		return fmt.Errorf("extract %q: %w", name, err)
	}
	return nil
}

func (e *extractor) visit(in *oci.Entry) error {
	name, escapes := clean(in.Header.Name)
	if escapes {
		e.stats.Warnings.count(warnEscapes)
	}
	if depth(name) > maxDepth {
		return fmt.Errorf("%w: over %d directories deep", oci.ErrTooLarge, maxDepth)
	}
	m, about := markOf(name)
	switch m {
	case markOther:
		e.stats.Warnings.count(warnMark)
		return nil
	case markOpaque:
		return e.hideDir(about)
	case markWhiteout:
		return e.hide(about)
	}
	if name == "" && in.Header.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root can't be a %s", oci.ErrInvalid, oci.TypeName(in.Header.Typeflag))
	}
	h, err := e.header(in.Header)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	parent, err := e.dirOf(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		target, _ := clean(h.Linkname)
		dir, last, err := e.split(target)
		if err != nil {
			return err
		}
		e.linked = filepath.Join(dir, last)
		h.Linkname = e.linked
		if e.opt.Overlay {
			if err := e.copyUp(e.linked); err != nil {
				return err
			}
		}
	}
	rel := filepath.Join(parent, base)
	delete(e.over.scaffold, rel)
	return e.put(rel, h, in.Body)
}

// bufSize is how much of a file is written at a time, in bytes.
const bufSize = 128 << 10

// put puts one entry at rel, whose parents are there and no links.
func (e *extractor) put(rel string, h *tar.Header, r io.Reader) error {
	if e.steps++; e.steps > e.max {
		return fmt.Errorf("%w: over %d entries", oci.ErrTooLarge, e.max)
	}
	if strings.HasPrefix(path.Base(rel), whiteout) { // umoci would take it for one
		return fmt.Errorf("%w: %q is a whiteout's name, and a directory's", oci.ErrInvalid, rel)
	}
	was, err := e.lstat(rel)
	if err != nil {
		return err
	}
	if was != nil && !was.Mode().IsRegular() && (h.Typeflag != tar.TypeDir || !was.IsDir()) {
		clear(e.dirs) // paths may have led over it
	}
	body := e.opt.Sums.begin(r, e.buf)
	size, flag := h.Size, h.Typeflag
	attrs := takeAttrs(h)
	err = e.unpackAt(rel, h, body)
	if errors.Is(err, os.ErrPermission) && isDevice(flag) && !e.rootless {
		e.stats.Warnings.count(warnDevice) // root, but not the machine's
		h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0, 0
		size, flag = 0, tar.TypeReg
		err = e.unpackAt(rel, h, empty{})
	}
	if err == nil {
		err = e.setAttrs(rel, attrs)
	}
	if err != nil {
		return err
	}
	if flag == tar.TypeReg {
		e.stats.Bytes += size
	}
	if flag == tar.TypeLink {
		e.opt.Sums.link(rel, e.linked)
	} else {
		e.opt.Sums.end(rel, flag, size, body)
	}
	e.upper.addAll(rel)
	delete(e.over.holes, rel)
	if e.opt.Overlay && flag == tar.TypeDir && was != nil && !was.IsDir() { // that hid what is below
		return e.setOpaque(rel)
	}
	return nil
}

// unpackAt has umoci put h at rel. It looks at each directory from its root on, so
// that is the one of rel, unless h links to elsewhere.
func (e *extractor) unpackAt(rel string, h *tar.Header, r io.Reader) error {
	dir := e.dir
	switch {
	case rel == "":
		h.Name = "."
	case h.Typeflag == tar.TypeLink:
		h.Name = rel
	default:
		dir, h.Name = e.abs(parentOf(rel)), path.Base(rel)
	}
	return e.unpack.entry(dir, h, r)
}

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }
