package filetree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A File is what a file system has at a path.
type File struct {
	Type     string // file, directory, symlink, hardlink, character device, block device, fifo, unknown
	Mode     int64  // permissions, with setuid, setgid and sticky
	UID, GID int
	Size     int64    // bytes
	Link     string   // target of a link; MAJOR:MINOR of a device
	Sum      [32]byte // sha256 of a file's content
	Xattrs   uint64   // hash of the extended attributes, of use in this process only; 0 is none
}

// SHA256 gives the digest of a file's content, "" of what is none.
func (f File) SHA256() string {
	if f.Type != "file" {
		return ""
	}
	return hex.EncodeToString(f.Sum[:])
}

// A Listing is one layer: what it adds and removes, in its order.
type Listing struct {
	DiffID  oci.Digest // of its tar, as it was read
	entries []listed
}

type listed struct {
	path string // clean; of a mark what it is about
	mark Mark
	File
}

// maxListing is the most bytes of names that a listing holds: 256 MiB.
const maxListing = 256 << 20

// List reads layer d of src, contents too. Errors are those of [Walk].
func List(ctx context.Context, src oci.Source, d oci.Descriptor, opt layer.Options) (*Listing, error) {
	l := &Listing{}
	size := 0
	read, err := Walk(ctx, src, d, opt, func(e *oci.Entry) error {
		h := e.Header
		path := Clean(h.Name)
		mark, about := MarkOf(path)
		if size += len(path) + len(h.Linkname); size > maxListing {
			return fmt.Errorf("layer: %w: names of over %d MiB", oci.ErrTooLarge, maxListing>>20)
		}
		switch {
		case mark == MarkOther:
			return nil
		case mark != MarkNone:
			l.entries = append(l.entries, listed{path: strings.Clone(about), mark: mark})
			return nil
		}
		f := File{
			Type: oci.TypeName(h.Typeflag), Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size,
			Link: strings.Clone(h.Linkname), Xattrs: xattrs(h.PAXRecords),
		}
		switch f.Type {
		case "file":
			sum := sha256.New()
			if _, err := io.Copy(sum, e.Body); err != nil {
				return err
			}
			sum.Sum(f.Sum[:0])
		case "character device", "block device":
			f.Link = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
		}
		l.entries = append(l.entries, listed{path: strings.Clone(path), File: f})
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.DiffID = read.DiffID
	l.entries = slices.Clip(l.entries)
	return l, nil
}

var seed = maphash.MakeSeed()

func xattrs(records map[string]string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	n := 0
	for _, k := range slices.Sorted(maps.Keys(records)) {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			fmt.Fprintf(&h, "%q=%q ", k, records[k])
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return h.Sum64() | 1
}
