package bulk

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// largeBlob is the size in bytes from which a blob is worth a HEAD before it is
// sent, where a mount that was answered with an upload proves nothing.
const largeBlob = 1 << 20

// refusals is how many mounts must be refused, and none granted, before a
// registry counts as one that doesn't mount.
const refusals = 2

// A mountState says whether a target mounts blobs of one repository into another.
type mountState int

const (
	mountsUnknown mountState = iota
	mountsWork               // one blob was mounted from another repository
	mountsRefused            // [refusals] were refused, and none was granted
)

// mounts is what a run learns of a target's mounts. blobs.mu guards it.
type mounts struct {
	state   mountState
	known   bool // a mount of any kind succeeded, so that the registry tells what it has
	refused int  // while the state is unknown
}

// mountState gives what is known of the target's mounts now.
func (b *blobs) mountState() mountState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mounts.state
}

// mounted notes that a mount succeeded: across repositories, or of a blob into
// the one that it is in.
func (b *blobs) mounted(across bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mounts.known = true
	if across {
		b.mounts.state = mountsWork
	}
}

// denied notes that the target refused to mount a blob which it has in another
// repository.
func (b *blobs) denied() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mounts.refused++; b.mounts.state == mountsUnknown && b.mounts.refused == refusals {
		b.mounts.state = mountsRefused
	}
}

// tells reports whether the registry is known to say what it has when it is
// asked by a mount.
func (b *blobs) tells() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mounts.known
}

// carryMounted brings p to a registry. "Is it there" and "take it over" are asked
// by the request that begins an upload where the answer is no: from, where the run
// has it; else the source's repository, if it is on the same registry; else where
// an earlier run had it; else the image's own. It holds no slot before bytes are to be sent.
func (m *mover) carryMounted(ctx context.Context, mounter oci.Mounter, p pipeline.Piece, from string) (oci.Descriptor, pipeline.Way, error) {
	origin, own := from, m.to.Repository
	if origin == "" {
		origin = m.near
	}
	remembered := ""
	if origin == "" {
		remembered = m.knownAt(p.Blob.Desc)
		origin = cmp.Or(remembered, own)
	}
	mounted, err := mounter.Mount(ctx, p.Blob.Desc, origin)
	if ctx.Err() != nil {
		return oci.Descriptor{}, 0, context.Cause(ctx)
	}
	mounted = mounted && err == nil
	across := origin != own
	if mounted {
		m.mounted(across)
	}
	switch {
	case mounted && across:
		m.count.mounted.Add(1)
		return p.Blob.Desc, pipeline.Mounted, nil
	case across:
		m.count.refused.Add(1)
	default:
		m.count.asked.Add(1)
	}
	if mounted {
		m.count.present.Add(1)
		return p.Blob.Desc, pipeline.Present, nil
	}
	if remembered != "" && err == nil {
		m.missed(p.Blob.Desc, remembered)
	}
	if from != "" && err == nil {
		m.denied()
	}
	if p.Size > largeBlob && (across || !m.tells()) {
		if there, err := m.has(ctx, p.Blob.Desc); there || err != nil {
			return p.Blob.Desc, pipeline.Present, err
		}
	}
	if m.mountState() == mountsRefused {
		return m.together(ctx, mounter, p, from)
	}
	if from == "" {
		return m.fetch(ctx, p)
	}
	return m.relay(ctx, mounter, p, from)
}

// relay brings p from repository from of the destination, which refused to mount
// it, and from the source only if it may not be read there.
func (m *mover) relay(ctx context.Context, mounter oci.Mounter, p pipeline.Piece, from string) (oci.Descriptor, pipeline.Way, error) {
	near := counted{Source: mounter.Sibling(from), blobs: &m.count.relayed, bytes: func(int64) {}}
	var far atomic.Bool
	b := p.Blob
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := near.Fetch(ctx, p.Blob.Desc)
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) {
			far.Store(true)
			return p.Blob.Open(ctx)
		}
		return rc, err
	}
	d, err := m.put(ctx, b, p.Size)
	if far.Load() {
		return d, pipeline.Fetched, err
	}
	return d, pipeline.Relayed, err
}
