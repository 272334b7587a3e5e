package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A Making is a layer that is to go through filters, or to be compressed
// otherwise.
type Making struct {
	// From is the layer as the source has it.
	From oci.Descriptor
	// How names all that the result depends on besides: filters, codec, versions.
	// Makings of one layer with equal How come to the same bytes.
	How string
	// Codec is what the result is compressed with.
	Codec layer.Codec
	// Layer is its place in the image, 0 being the lowest.
	Layer int
	// Look says that filters want to see the layer in this run, whatever is known
	// of it from others.
	Look bool
	// Compare says that the result is likely to be at the destination, so that it
	// is worth a pass to know its digest before anything is sent.
	Compare bool
	// Sure says that the destination can't take back what it was given: the result
	// is known before anything is sent.
	Sure bool
	// Recodes says that no filter sees the layer: it is compressed with Codec, and
	// its tar and diffID stay.
	Recodes bool

	fetch func(ctx context.Context) (io.ReadCloser, error) // of From, which it verifies
	keeps bool                                             // the filters only look
	mu    sync.Mutex
	pass  *layer.Pass // in use by whoever holds mu; nil if Recodes
}

// A Made is what a layer came to.
type Made struct {
	// Digest and Size are those of the blob. Where Unchanged is set they are the
	// source's: the filters let every entry pass as it was.
	Digest    oci.Digest
	Size      int64
	DiffID    oci.Digest
	Unchanged bool
	// TarSize and SourceTarSize count the bytes of tar, after and before; -1 if
	// the layer wasn't read in this run. SourceDiffID is "" then.
	TarSize, SourceTarSize int64
	SourceDiffID           oci.Digest
	// Restarts counts the passes that had to begin again, because of a hard link
	// to a file that had been dropped.
	Restarts int
}

// errUnchanged ends an upload that isn't needed.
var errUnchanged = fmt.Errorf("the filters left the layer as it was: %w", oci.ErrAbandoned)

// errRestart ends an upload of bytes that turned out to be wrong.
var errRestart = fmt.Errorf("the pass has to begin again: %w", oci.ErrAbandoned)

// IsRestart reports whether err ended a transfer of a [Making.Piece] because the
// pass has to begin again. It knows more now: the next attempt goes further.
func IsRestart(err error) bool { return errors.Is(err, errRestart) }

// maxRestarts bounds how often one pass may begin again.
const maxRestarts = 100

// howMade names what filters do to a layer that comes out in codec. It is
// the same for the same output.
func howMade(c filter.Chain, codec layer.Codec) string {
	return codec.ID() + " " + strings.Join(c.IDs(), " ")
}

func newMaking(src oci.Source, c filter.Chain, d oci.Descriptor, index int, codec layer.Codec, spare layer.Spare) *Making {
	written := codec
	if spare |= layer.SpareBlob; !c.Changes {
		written = layer.None // nobody wants it
		spare |= layer.SpareTar
	}
	return &Making{
		From: d, How: howMade(c, codec), Codec: codec, Layer: index, Look: c.Looks, fetch: fetcher(src, d), keeps: !c.Changes,
		pass: layer.NewPass(d, c.Entries, layer.PassOptions{Codec: written, Spare: spare}),
	}
}

func fetcher(src oci.Source, d oci.Descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return src.Fetch(ctx, d) }
}

// newRecoding makes a Making of layer d, the i-th, that only compresses it with
// codec. fetch opens d's blob and verifies it.
func newRecoding(fetch func(context.Context) (io.ReadCloser, error), d oci.Descriptor, i int, codec layer.Codec) *Making {
	return &Making{From: d, How: howRecoded(codec), Codec: codec, Layer: i, Recodes: true, fetch: fetch}
}

// howRecoded is no howMade of any filters.
func howRecoded(codec layer.Codec) string { return "recode " + codec.ID() }

// Desc describes the blob that made is.
func (m *Making) Desc(made Made) oci.Descriptor {
	if made.Unchanged {
		return m.From
	}
	return oci.Descriptor{MediaType: m.Codec.MediaType(m.From.MediaType), Digest: made.Digest, Size: made.Size}
}

// Piece is the blob that made is, to be brought by a [Mover]. Opening it makes
// it again.
func (m *Making) Piece(made Made) Piece {
	b := oci.Blob{Desc: m.Desc(made), DiffID: made.DiffID, Layer: m.Layer}
	b.Open = func(ctx context.Context) (io.ReadCloser, error) { return m.begin(ctx), nil }
	return Piece{Blob: b, Size: m.From.Size}
}

// Bring makes the layer and sees to it that the result is in dest. Where the
// filters left it as it was nothing is brought. The way is [Present] or [Fetched].
//
// A result of up to 512 KiB is held in memory until all of it is known; of a larger
// one the upload begins while it is made, unless m.Compare or m.Sure.
func (m *Making) Bring(ctx context.Context, dest oci.Destination) (Made, Way, error) {
	if m.keeps {
		made, err := m.learn(ctx)
		return made, Present, err
	}
	wrong := 0
	for restarts := 0; ; {
		made, way, err := m.bring(ctx, dest)
		made.Restarts = restarts
		switch {
		case err == nil, ctx.Err() != nil:
			return made, way, err
		case (errors.Is(err, layer.ErrAgain) || IsRestart(err)) && restarts < maxRestarts:
			restarts++
		case errors.Is(err, errEarly) && errors.Is(err, oci.ErrDigestMismatch) && wrong < rereads:
			wrong++
		default:
			return Made{}, way, err
		}
	}
}

const (
	// smallLayer is how much of a result is held in memory: 512 KiB.
	smallLayer = 512 << 10
	// rereads is how often a layer is read again whose bytes proved to be wrong,
	// where no destination does that.
	rereads = 2
)

// errEarly marks a failure of a pass whose result no destination was given.
var errEarly = errors.New("before anything was sent")

var heads = sync.Pool{New: func() any { return new([smallLayer]byte) }}

// bring makes one attempt. Its error matches [layer.ErrAgain] or is a restart if
// there is to be another.
func (m *Making) bring(ctx context.Context, dest oci.Destination) (Made, Way, error) {
	buf := heads.Get().(*[smallLayer]byte)
	defer heads.Put(buf)
	c := m.begin(ctx)
	defer c.Close()
	n, err := io.ReadFull(c, buf[:])
	whole := err != nil // or as much of it as there will be
	if !whole && !m.Compare && !m.Sure {
		return m.stream(ctx, dest, c, buf[:])
	}
	hash := digest.Canonical.Digester()
	_, _ = hash.Hash().Write(buf[:n]) // a hash never fails
	_, _ = io.Copy(hash.Hash(), c)    // outcome says how it ended
	made, err := c.outcome()
	switch {
	case err != nil:
		return Made{}, 0, &earlyError{err}
	case made.Unchanged:
		return made, Present, nil
	}
	made.Digest = hash.Digest()
	if there, err := dest.Has(ctx, m.Desc(made)); there || err != nil {
		return made, Present, err
	}
	p := m.Piece(made)
	if whole {
		p.Blob.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf[:n])), nil }
	}
	_, err = dest.PutBlob(ctx, p.Blob)
	return made, Fetched, err
}

type earlyError struct{ error }

func (e *earlyError) Unwrap() []error { return []error{errEarly, e.error} }

// stream sends what c makes while it is made. head was read of it. The
// destination hashes what it takes, so nobody else does.
func (m *Making) stream(ctx context.Context, dest oci.Destination, c *content, head []byte) (Made, Way, error) {
	var mu sync.Mutex // destinations may open from another goroutine
	last, used := c, false
	b := oci.Blob{Desc: oci.Descriptor{MediaType: m.Codec.MediaType(m.From.MediaType), Size: -1}, Layer: m.Layer}
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if used {
			last = m.begin(ctx)
			return last, nil
		}
		used = true
		return headed{io.MultiReader(bytes.NewReader(head), c), c}, nil
	}
	d, err := dest.PutBlob(ctx, b)
	mu.Lock()
	made, why := last.outcome()
	mu.Unlock()
	switch {
	case errors.Is(why, layer.ErrAgain):
		return Made{}, 0, why
	case why == nil && made.Unchanged:
		return made, Present, nil
	case err != nil:
		return Made{}, 0, err
	case why != nil:
		return Made{}, 0, why
	case d.Size != made.Size:
		return Made{}, 0, fmt.Errorf("%w: the layer became %d bytes, the destination took %s of %d", oci.ErrDigestMismatch, made.Size, d.Digest, d.Size)
	}
	made.Digest = d.Digest
	return made, Fetched, nil
}

// headed reads a content of which something was read before.
type headed struct {
	io.Reader
	io.Closer
}

// learn makes the layer and keeps nothing but what it came to.
func (m *Making) learn(ctx context.Context) (Made, error) {
	wrong := 0
	for restarts := 0; ; {
		made, err := m.run(ctx, io.Discard)
		made.Restarts = restarts
		switch {
		case ctx.Err() != nil:
			return Made{}, context.Cause(ctx)
		case errors.Is(err, layer.ErrAgain) && restarts < maxRestarts:
			restarts++
		case errors.Is(err, oci.ErrDigestMismatch) && wrong < rereads:
			wrong++
		default:
			return made, err
		}
	}
}

// run makes one pass into w. Of a result that isn't the source's blob Digest is "":
// who takes it hashes it.
func (m *Making) run(ctx context.Context, w io.Writer) (Made, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rc, err := m.fetch(ctx)
	if err != nil {
		return Made{}, err
	}
	defer rc.Close()
	var r layer.Rewritten
	if m.Recodes {
		r, err = layer.Recode(ctx, w, rc, m.From, layer.PassOptions{Codec: m.Codec, Spare: layer.SpareBlob})
		r.Unchanged = false // the blob is another, or its media type
	} else {
		r, err = m.pass.Run(ctx, w, rc)
	}
	if err != nil {
		return Made{}, err
	}
	made := Made{
		Digest: r.Desc.Digest, Size: r.Desc.Size, DiffID: r.DiffID, Unchanged: r.Unchanged || m.keeps,
		TarSize: r.TarSize, SourceTarSize: r.Source.Size, SourceDiffID: r.Source.DiffID,
	}
	if made.Unchanged {
		made.Digest, made.Size, made.DiffID, made.TarSize = m.From.Digest, m.From.Size, made.SourceDiffID, made.SourceTarSize
	}
	return made, nil
}

// begin begins a pass whose result is read.
func (m *Making) begin(ctx context.Context) *content {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	c := &content{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	// A reader that waits learns at once that the pass is over.
	unhook := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(c.done)
		defer unhook()
		c.made, c.err = m.run(ctx, w)
		switch {
		case errors.Is(c.err, layer.ErrAgain):
			w.CloseWithError(errRestart)
		case c.err == nil && c.made.Unchanged:
			w.CloseWithError(errUnchanged)
		default:
			w.CloseWithError(c.err)
		}
	}()
	return c
}

// A content is a layer that is being made while it is read.
type content struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{} // closed when made and err are set
	made   Made
	err    error
}

// Close ends the pass and waits for it.
func (c *content) Close() error {
	err := c.PipeReader.Close()
	c.cancel()
	<-c.done
	return err
}

// outcome gives what the pass came to. Whoever read it is done.
func (c *content) outcome() (Made, error) {
	_ = c.Close() // which never fails
	return c.made, c.err
}
