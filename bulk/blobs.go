package bulk

import (
	"context"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/quaymaster/quaymaster/internal/layercache"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// blobs is the run's blob table: where at the destination each distinct blob
// is, and which are on their way there.
//
// Per blob it keeps 36 bytes and 4 more for each further home; digests are not
// kept as text, since a run may see millions.
type blobs struct {
	ctx   context.Context // the run's: it rules flights, which may outlive the image that asked first
	slots *slots          // held while bytes of a blob are sent
	light *slots          // in place of those, of at most lightBlob bytes
	// passes is held while a layer is rewritten: what the cores can't do at
	// once would only take memory, about 10 MB each.
	passes *semaphore.Weighted
	dry    bool // nothing is written, and "is there" means "would be"
	count  *transfers
	known  *known // of earlier runs, nil for nothing

	mu      sync.Mutex
	homes   map[string]home // of repositories by name
	names   []string        // of homes
	first   map[key]home    // where a blob came to first
	more    map[key][]home  // where it is besides
	flights map[key][]*flight
	broken  map[key]*fault
	wants   map[key][]*want // what images of the window will ask for
	mounts  mounts
	made    map[key]*pipeline.Made // what layers came to that went through filters
	flying  sync.WaitGroup
}

// lightBlob is the most bytes of a blob that takes turns and no bandwidth: configs,
// most of all. They don't wait behind layers, and twice as many go at once.
const lightBlob = 64 << 10

// A key stands for a digest.
type key [sha256.Size]byte

func keyOf(d oci.Digest) key { return sha256.Sum256([]byte(d)) }

// A home is a place at the destination in which a blob is stored once: a
// repository, or a shelf that all images share.
type home uint32

// A fault is what a blob's content failed of.
type fault struct {
	times int
	err   error
}

// maxFaults is how many transfers of a blob may find wrong bytes at the source
// before the images that are left aren't tried.
const maxFaults = 3

func newBlobs(ctx context.Context, opt Options, count *transfers) *blobs {
	b := blobs{
		ctx: ctx, slots: newSlots(opt.blobs()), light: newSlots(2 * opt.blobs()), passes: semaphore.NewWeighted(int64(max(2, runtime.GOMAXPROCS(0)))), dry: opt.DryRun, count: count,
		known: newKnown(opt.BlobCache),
	}
	return b.apart()
}

// apart gives a table of its own for one of several places, with b's slots.
func (b *blobs) apart() *blobs {
	return &blobs{
		ctx: b.ctx, slots: b.slots, light: b.light, passes: b.passes, dry: b.dry, count: b.count, known: b.known,
		homes: map[string]home{}, first: map[key]home{}, more: map[key][]home{}, flights: map[key][]*flight{}, broken: map[key]*fault{},
		wants: map[key][]*want{}, made: map[key]*pipeline.Made{},
	}
}

// home gives the home called name: a repository, or "" for the shelf.
func (b *blobs) home(name string) home {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.homes[name]
	if !ok {
		h = home(len(b.names))
		b.homes[name], b.names = h, append(b.names, name)
	}
	return h
}

// wait returns when no transfer is under way.
func (b *blobs) wait() { b.flying.Wait() }

// isAt reports whether blob k is in h. b.mu is held.
func (b *blobs) isAt(k key, h home) bool {
	first, ok := b.first[k]
	return ok && (first == h || slices.Contains(b.more[k], h))
}

// landed notes that blob k is in h. b.mu is held.
func (b *blobs) landed(k key, h home) {
	if _, ok := b.first[k]; !ok {
		b.first[k] = h
	} else if !b.isAt(k, h) {
		b.more[k] = append(b.more[k], h)
	}
}

// A mover brings the blobs of one image through the table.
type mover struct {
	*blobs
	home home
	dest *berth
	to   oci.Ref
	// cache is of earlier runs, nil for none; specs are the filters as the user
	// wrote them.
	cache *layercache.Cache
	specs []string
	// near is the source's repository, if that is on the registry of to; else "".
	near string
	mine map[key]*want // what the image will ask for, as far as it is known; mu guards it
	// alone is set for places whose images share nothing: each blob is put.
	alone bool
}

// Move implements [pipeline.Mover]. A blob that another image is bringing is
// waited for; it goes on if that image fails, and is begun again if it fails
// itself.
func (m *mover) Move(ctx context.Context, p pipeline.Piece) (oci.Descriptor, pipeline.Way, error) {
	if m.alone {
		return m.moveAlone(ctx, p)
	}
	d, way, err := m.move(ctx, p)
	if err == nil {
		m.found(d)
	}
	return d, way, err
}

func (m *mover) move(ctx context.Context, p pipeline.Piece) (oci.Descriptor, pipeline.Way, error) {
	k := keyOf(p.Blob.Desc.Digest)
	for again := false; ; again = true {
		f, mine, err := m.join(k, p, again)
		if f == nil {
			return p.Blob.Desc, pipeline.Present, err
		}
		select {
		case <-f.done:
			if mine {
				return f.desc, f.way, f.err
			}
		case <-ctx.Done():
			m.leave(f)
			return oci.Descriptor{}, 0, context.Cause(ctx)
		}
	}
}

// join gives the flight to wait for before blob k is in m's home, and whether
// it was begun for m; nil and no error if k is there.
func (m *mover) join(k key, p pipeline.Piece, again bool) (f *flight, mine bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.foreseen(k); f != nil {
		return f, true, nil
	}
	if m.isAt(k, m.home) {
		return nil, false, nil
	}
	origin, somewhere := m.first[k]
	for _, f := range m.flights[k] {
		if f.to == m.home || !somewhere {
			f.wanted++
			return f, false, nil
		}
	}
	if bad := m.broken[k]; bad != nil && bad.times >= maxFaults {
		return nil, false, bad.err
	}
	if again && !somewhere {
		m.count.takenOver.Add(1)
	}
	return m.takeOff(k, p, origin, somewhere), true, nil
}

// leave says that one image fewer waits for f. A flight that nobody waits for
// ends.
func (b *blobs) leave(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.leave()
}

// end enters what became of f.
func (b *blobs) end(k key, f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := slices.DeleteFunc(b.flights[k], func(o *flight) bool { return o == f })
	if b.flights[k] = left; len(left) == 0 {
		delete(b.flights, k)
	}
	switch {
	case f.made != nil:
		if b.made[k] = f.made; !f.alone && !f.made.Unchanged && f.made.Digest != "" {
			b.landed(keyOf(f.made.Digest), f.to)
		}
	case f.err == nil:
		b.landed(k, f.to)
	case errors.Is(f.err, oci.ErrDigestMismatch):
		if b.broken[k] == nil {
			b.broken[k] = &fault{}
		}
		b.broken[k].times++
		b.broken[k].err = f.err
	}
	close(f.done)
}
