package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// PassOptions say how a layer is read and written.
type PassOptions struct {
	Codec  Codec // of what is written; "" means the one that the layer has
	Limits Options
	// Spare are digests that the caller can do without. That of a tar costs about
	// a third of what it takes to inflate it.
	Spare Spare
}

// Spare is a set of digests of [Rewritten] that are left "".
type Spare uint8

const (
	// SpareBlob is Desc.Digest: of what whoever takes the blob hashes.
	SpareBlob Spare = 1 << iota
	// SpareTar is DiffID, of a Pass.
	SpareTar
	// SpareSource is Source.DiffID, of a Pass that changes the layer. It has
	// the digest all the same where a filter wants to learn it.
	SpareSource
)

// A Pass rewrites one layer by a chain of filters: read, decompressed, filtered
// by all of them, compressed and written in one go, with no temporary file.
//
// It is run once, and again for each attempt at storing the layer, since it
// gives the same bytes each time; or when a run gives [ErrAgain]. It is for one
// goroutine at a time.
type Pass struct {
	desc     oci.Descriptor
	filters  []oci.EntryFilter
	opt      PassOptions
	links    *links
	restarts int
}

// NewPass makes a pass over the layer d. The first filter sees the entries first.
func NewPass(d oci.Descriptor, filters []oci.EntryFilter, opt PassOptions) *Pass {
	return &Pass{desc: d, filters: filters, opt: opt, links: newLinks(filters)}
}

// Restarts is how many runs ended with [ErrAgain].
func (p *Pass) Restarts() int { return p.restarts }

// Rewritten is what a run made of a layer.
type Rewritten struct {
	// Desc is of the bytes that were written. Its media type is of the layer's
	// family, and says how it is compressed; annotations about the layer's own
	// bytes are gone, and so are its URLs.
	Desc    oci.Descriptor
	DiffID  oci.Digest // of the tar that was written
	TarSize int64      // of that tar
	Entries int64      // written

	// Unchanged: each entry came out as it went in, so that the layer itself can
	// be kept. Desc need not be that of the layer even so.
	Unchanged bool

	Source Tar // the layer as it was
}

// Run rewrites the layer once: from src, the blob, which checks its digest at
// its end, to w. Only without an error is what w got a layer, and only then
// were the filters' sinks closed.
//
// ErrAgain means: run it once more, with src from its start and another w.
// Errors of src, of w and of filters come out as they are; the rest are as with
// [Walk]. Reads and writes that hang must end with ctx: Run waits for its
// goroutines, which write to w.
func (p *Pass) Run(ctx context.Context, w io.Writer, src io.Reader) (_ Rewritten, err error) {
	limits := p.opt.Limits
	limits.NoDiffID = false // Spare says it
	in, err := openEntries(ctx, src, limits)
	if err != nil {
		return Rewritten{}, settle(ctx, src, err)
	}
	defer in.close()
	codec := p.opt.Codec
	if codec == "" {
		codec = in.tape.r.Codec()
	}
	blob := newSum(w, p.opt.Spare&SpareBlob != 0)
	enc, err := codec.encoder(blob)
	if err != nil {
		return Rewritten{}, err
	}
	defer func() {
		if err != nil {
			enc.abort()
		}
	}()
	p.links.begin()
	t := newTail(p.links, enc, p.opt.Spare&SpareTar != 0)
	in.global = t.global
	var head oci.Sink = t
	var learners []oci.Learner
	for i := len(p.filters) - 1; i >= 0; i-- {
		head = p.filters[i].Wrap(p.desc, head)
		if l, ok := head.(oci.Learner); ok && p.desc.Digest == "" {
			learners = append(learners, l)
		}
	}

	if err := t.pump(in, head, p.opt.Spare&SpareSource != 0 && len(learners) == 0); err != nil {
		if in.bad { // else src has nothing to do with it
			err = settle(ctx, src, err)
		}
		return Rewritten{}, err
	}
	from, err := in.finish()
	if err != nil {
		return Rewritten{}, settle(ctx, src, err)
	}
	if p.links.again() {
		p.restarts++
		return Rewritten{}, ErrAgain
	}
	for _, l := range learners {
		l.Learn(from.DiffID)
	}
	if err := head.Close(); err != nil {
		return Rewritten{}, err
	}
	if !t.closed {
		return Rewritten{}, errors.New("layer: a filter didn't close its sink")
	}
	return Rewritten{
		Desc:   describe(p.desc, codec, blob),
		DiffID: t.sum.digest(), TarSize: t.sum.n, Entries: t.n,
		Unchanged: t.same.unchanged(), Source: from,
	}, nil
}

// A tail is the last sink of a pass: it writes.
type tail struct {
	links *links
	same  comparison
	enc   encoder
	sum   *sum
	tw    *tar.Writer
	buf   []byte
	n     int64

	closed bool
	failed error // of writing
}

func newTail(l *links, enc encoder, spared bool) *tail {
	s := newSum(enc, spared)
	return &tail{links: l, enc: enc, sum: s, tw: tar.NewWriter(s), buf: make([]byte, 64<<10)}
}

// pump puts all entries of in into head. spare: of a layer that changes, nobody
// asks what it was.
func (t *tail) pump(in *entries, head oci.Sink, spare bool) error {
	for {
		e, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b := in.last
		keep, changed := t.links.in(e, b)
		if changed {
			t.same.change()
		}
		if !keep {
			continue
		}
		t.same.in(e.Header, b)
		err = head.Put(e)
		b.stale = true
		if err != nil {
			return err
		}
		t.links.done()
		if spare && t.same.changed {
			in.tape.sum.spare()
		}
	}
}

// Put writes e.
func (t *tail) Put(e *oci.Entry) error {
	if t.closed {
		return errors.New("layer: a filter put an entry behind the end")
	}
	if err := t.links.out(e); err != nil {
		return err
	}
	was := t.same.out(e)
	if t.links.again() {
		return nil // nothing of this run is kept
	}
	if err := t.header(e.Header); err != nil {
		return err
	}
	t.n++
	if !hasBody(e.Header.Typeflag) || e.Header.Size == 0 {
		return nil
	}
	return t.body(e, was)
}

// body writes e's body; was is the body that its header came with.
func (t *tail) body(e *oci.Entry, was *body) error {
	from := e.Body
	if from == nil {
		return fmt.Errorf("layer: %w: a filter gave %q no body", oci.ErrInvalid, e.Header.Name)
	}
	other := io.Discard
	b, own := from.(*body)
	var hash *maphash.Hash
	switch {
	case own && b.read == 0 && b.size == e.Header.Size:
		b.direct = true
	case was != nil:
		hash = newHash()
		other = hash // a filter may look at a body on its way and not change it
	}
	n, err := io.CopyBuffer(onlyWriter{t.tw, other, &t.failed}, io.LimitReader(from, e.Header.Size), t.buf)
	if err != nil {
		return err
	}
	if n == e.Header.Size && !(own && b.direct) {
		// One byte more shows a body that is longer than its header says.
		k, err := io.ReadFull(from, t.buf[:1])
		if k > 0 {
			n++
		} else if err != io.EOF {
			return err
		}
	}
	if n != e.Header.Size {
		return fmt.Errorf("layer: %w: the body of %q isn't of the %d bytes that its header says", oci.ErrInvalid, e.Header.Name, e.Header.Size)
	}
	if hash != nil && (was.hash == nil || was.read != was.size || was.hash.Sum64() != hash.Sum64()) {
		t.same.change()
	}
	return nil
}

// An onlyWriter writes to a tar, and to what looks on.
type onlyWriter struct {
	tar, other io.Writer
	failed     *error
}

func (w onlyWriter) Write(p []byte) (int, error) {
	n, err := w.tar.Write(p)
	if err != nil {
		*w.failed = err
		return n, err
	}
	return w.other.Write(p)
}

// Close ends the tar and what it is compressed with.
func (t *tail) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	if t.failed = t.tw.Close(); t.failed == nil {
		t.failed = t.enc.Close()
	}
	return t.failed
}
