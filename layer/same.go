package layer

import (
	"archive/tar"
	"maps"

	"github.com/quaymaster/quaymaster/oci"
)

// maxPending is how many entries filters may hold back before the layer counts
// as changed, however they come out.
const maxPending = 1024

// A comparison tells whether the entries of a layer came out as they went in:
// the same headers and bodies in the same order, none more and none less.
type comparison struct {
	changed bool
	pending []snapshot // went in, and didn't come out so far
}

// A snapshot is an entry before filters could change it.
type snapshot struct {
	header tar.Header
	body   *body
}

func (c *comparison) in(h *tar.Header, b *body) {
	if c.changed {
		return
	}
	if len(c.pending) == maxPending {
		c.change()
		return
	}
	s := snapshot{*h, b}
	s.header.PAXRecords = maps.Clone(h.PAXRecords)
	c.pending = append(c.pending, s)
}

// out gives the body that e had, nil if the layer has changed.
func (c *comparison) out(e *oci.Entry) *body {
	if c.changed {
		return nil
	}
	if len(c.pending) == 0 || !sameHeader(&c.pending[0].header, e.Header) {
		c.change()
		return nil
	}
	b := c.pending[0].body
	c.pending[0] = snapshot{}
	c.pending = c.pending[1:]
	return b
}

func (c *comparison) change() { c.changed, c.pending = true, nil }

func (c *comparison) unchanged() bool { return !c.changed && len(c.pending) == 0 }

// sameHeader compares what is written: not Format, which is chosen anew.
func sameHeader(a, b *tar.Header) bool {
	return a.Typeflag == b.Typeflag && a.Name == b.Name && a.Linkname == b.Linkname && a.Size == b.Size &&
		a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Uname == b.Uname && a.Gname == b.Gname &&
		a.ModTime.Equal(b.ModTime) && a.AccessTime.Equal(b.AccessTime) && a.ChangeTime.Equal(b.ChangeTime) &&
		a.Devmajor == b.Devmajor && a.Devminor == b.Devminor &&
		len(b.Xattrs) == 0 && maps.Equal(a.PAXRecords, b.PAXRecords) //nolint:staticcheck // a filter may set it
}
