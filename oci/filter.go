package oci

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
)

// An Entry is one tar entry on its way through the filters.
type Entry struct {
	Header *tar.Header
	Body   io.Reader // Header.Size bytes; valid until Put returns
}

// TypeName names the type of a tar entry as users see it: "file", "directory",
// "symlink", "hardlink", "character device", "block device", "fifo" or "unknown".
func TypeName(flag byte) string {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "fifo"
	}
	return "unknown"
}

// A Sink takes the entries of one layer, in order. Close ends the layer.
type Sink interface {
	Put(e *Entry) error
	Close() error
}

// An EntryFilter rewrites, or looks at, the entries of a layer in one pass.
// Implementations are safe for concurrent use; a Sink is for one goroutine.
type EntryFilter interface {
	// ID names the filter, its options and its version. Equal IDs promise
	// equal output, which is what lets a run filter a shared layer once.
	ID() string
	// Wrap starts a pass over layer. To drop an entry don't call next.Put; to
	// add one call it again; to end, call next.Close. A pass may be given up and
	// started again, so effects wait for Close to succeed. The layer's Digest may
	// be "": see [Learner].
	Wrap(layer Descriptor, next Sink) Sink
}

// A Learner is a [Sink] that wants to know which layer it got, where Wrap wasn't
// told: a layer that is filtered while it comes has no digest yet.
type Learner interface {
	// Learn is called before Close, with the digest of the tar as it was.
	Learn(layer Digest)
}

// A Dropper is an [EntryFilter] that drops entries by their path alone, so that
// a hard link into a lower layer can be told from one that would dangle.
type Dropper interface {
	// Drops reports whether the entry at path (clean, no leading slash) is dropped.
	Drops(path string) bool
}

// An ImageFilter edits an image before its layers are read.
type ImageFilter interface {
	ID() string
	Edit(ctx context.Context, img *Image) error
}

// AnnotationFilters holds, on the descriptor of a source's manifest, the IDs of
// the filters that were applied to what it describes. Places that keep
// [Destination.Commit]'s from keep it too and give it back by Head; it is never
// written into manifests.
const AnnotationFilters = "io.quaymaster.filters"

// An Image is what an [ImageFilter] may change of one image. Platform, layers and
// the fields of the config that nobody touches stay as they are.
type Image struct {
	Ref      Ref      // its name at the source
	Platform Platform // of the config
	Layers   []Descriptor
	// Config is the whole config: keys that the specification doesn't know are
	// kept, and keys that aren't changed keep their bytes.
	Config map[string]json.RawMessage
	// Annotations are the manifest's.
	Annotations map[string]string
}
