package check

import (
	"cmp"
	"context"
	"hash/maphash"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// Options of a run. The zero value is ready.
type Options struct {
	// Fast reads manifests and configs only.
	Fast bool
	// Platforms are those of an index that are checked; none means all. An
	// image that is for none of them is an error matching [oci.ErrNotFound].
	Platforms []oci.Platform
	// Blobs is how many layers are read at once. 0 means 4.
	Blobs int
	// Layer bounds what a layer may grow to.
	Layer layer.Options
	// MaxEntries is the most entries of a layer's tar, and of all layers of an
	// image. 0 means 4 million.
	MaxEntries int
	// Memory is how many bytes are kept of layers that were read, in case that
	// further images have them. A layer that had to give way is read again. 0
	// means 64 MiB, room for about two million entries.
	Memory int64
}

// A Checker checks the images of one run. It is safe for concurrent use.
type Checker struct {
	opt   Options // with defaults filled in
	seed  maphash.Seed
	slots chan struct{} // one for each layer that is being read
	seen  *memory
}

// New makes a checker for one run.
func New(opt Options) *Checker {
	opt.Blobs = cmp.Or(max(opt.Blobs, 0), 4)
	opt.MaxEntries = cmp.Or(max(opt.MaxEntries, 0), 4_000_000)
	opt.Memory = cmp.Or(max(opt.Memory, 0), 64<<20)
	return &Checker{opt: opt, seed: maphash.MakeSeed(), slots: make(chan struct{}, opt.Blobs), seen: newMemory(opt.Memory)}
}

// Image checks one image of src; see [Checker.Image].
func Image(ctx context.Context, src oci.Source, item oci.Item, opt Options) (Report, error) {
	return New(opt).Image(ctx, src, item)
}

// Image checks item: the digest that was listed, else what the name means now.
// Content that is absent or wrong is a result. An error says that something
// could not be read, and then the report is not complete. It matches
// [oci.ErrGone] or [oci.ErrMoved] if the listed digest is there no more.
func (c *Checker) Image(ctx context.Context, src oci.Source, item oci.Item) (Report, error) {
	mode := ModeFull
	if c.opt.Fast {
		mode = ModeFast
	}
	x := &exam{Checker: c, src: src, item: item, visited: map[oci.Digest]bool{}, report: Report{
		Image: item.Ref.Repository, Tag: item.Ref.Tag, Mode: mode, Ref: item.Ref, Results: []Result{},
	}}
	if err := x.root(ctx); err != nil {
		name := item.Ref.Tagged()
		if item.Ref.Reference() == "" {
			name = string(item.Desc.Digest)
		}
		return x.report, &oci.Error{Op: "check", Ref: name, Err: err}
	}
	return x.report, nil
}
