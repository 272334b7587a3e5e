package bulk

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

const (
	// maxRiders is how many uploads one read feeds.
	maxRiders = 16
	// lookPatience is how long a read waits for those who are yet to say whether
	// they have the blob. A read then begins without them.
	lookPatience = time.Second
)

// A convoy is one blob on its way into several homes at once, of a registry
// that doesn't mount: one read feeds all uploads. Each is a flight of its own.
// One that fails or falls behind leaves the others alone and reads for itself, at
// the destination as soon as the blob is anywhere there.
type convoy struct {
	*blobs
	k      key
	lead   *rider // who asked: what it reads is for all
	riders []*rider
	tee    *tee

	// Under blobs.mu.
	left   int // riders that haven't landed
	held   int // slots
	active int // uploads that go on without waiting for another's
	faults int // reads at the source that gave wrong bytes
	fault  error
	change bell // one of these has, or the blob has landed
}

// A rider is one upload of a convoy.
type rider struct {
	*convoy
	m     *mover
	to    oci.Mounter
	piece pipeline.Piece
	ctx   context.Context // its flight's
	own   atomic.Bool     // it read for itself
	far   atomic.Bool     // and did so, or had it done for all, at the source
	land  func(oci.Descriptor, pipeline.Way, error)
}

// together brings p, which m's home lacks, and along with it brings it to all
// images of the window that will ask for it. From is where the run has it, "" if
// nowhere.
func (m *mover) together(ctx context.Context, mounter oci.Mounter, p pipeline.Piece, from string) (d oci.Descriptor, way pipeline.Way, err error) {
	landed := make(chan struct{})
	c := &convoy{blobs: m.blobs, k: keyOf(p.Blob.Desc.Digest)}
	c.lead = &rider{convoy: c, m: m, to: mounter, piece: p, ctx: ctx, land: func(got oci.Descriptor, by pipeline.Way, e error) {
		d, way, err = got, by, e
		close(landed)
	}}
	c.riders = []*rider{c.lead}
	if !c.gather() {
		if from == "" {
			return m.fetch(ctx, p)
		}
		return m.relay(ctx, mounter, p, from)
	}
	m.flying.Go(c.run) // it may outlive the flight that asked
	<-landed
	return d, way, err
}

// gather begins flights for images that will ask for the blob. It reports
// whether there are any.
func (c *convoy) gather() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.lacking(c.k) {
		mounter, ok := w.m.dest.Destination.(oci.Mounter)
		if len(c.riders) == maxRiders || !ok || w.piece.Blob.Desc.Size != c.lead.piece.Blob.Desc.Size {
			continue
		}
		f := &flight{to: w.m.home, wanted: 1, done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(c.ctx)
		c.flights[c.k] = append(c.flights[c.k], f)
		w.flight = f
		w.m.dest.hold()
		c.riders = append(c.riders, &rider{convoy: c, m: w.m, to: mounter, piece: w.piece, ctx: f.ctx, land: func(d oci.Descriptor, way pipeline.Way, err error) {
			f.desc, f.way, f.err = d, way, err
			c.end(c.k, f)
			f.cancel()
			w.m.dest.release()
		}})
	}
	c.active, c.left = len(c.riders), len(c.riders)
	return c.active > 1
}

// run brings the blob to all. It takes the slots of all uploads in one go, and
// the read needs none besides, so nothing waits in a circle.
func (c *convoy) run() {
	ctx, cancel := c.whileWanted()
	defer cancel()
	c.tee = newTee(c.lead.read)
	members := make([]*member, len(c.riders))
	for i, r := range c.riders {
		members[i] = c.tee.add(r.alone)
	}
	ready, looked := make(chan error, 1), make(chan struct{}, len(c.riders))
	var uploads sync.WaitGroup
	for i, r := range c.riders {
		uploads.Go(func() {
			defer members[i].leave()
			r.ride(members[i], looked, ready)
		})
	}
	c.await(ctx, looked)
	slots := min(len(c.riders), c.slots.most)
	err := c.slots.acquire(ctx, slots, c.lead.piece.Size)
	if err == nil {
		c.hold(slots)
	}
	ready <- err
	if err == nil {
		c.tee.run(ctx)
	}
	uploads.Wait()
}

// await waits until all know whether they lack the blob: who has it spares the
// source the read. One that is slow to answer isn't waited for.
func (c *convoy) await(ctx context.Context, looked <-chan struct{}) {
	late := time.NewTimer(lookPatience)
	defer late.Stop()
	for range c.riders {
		select {
		case <-looked:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// hold notes that the convoy has n slots more.
func (c *convoy) hold(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held += n
	c.settle()
}

// settle gives back slots that no upload is left for. blobs.mu is held.
func (c *convoy) settle() {
	if spare := c.held - c.left; spare > 0 {
		c.slots.release(spare)
		c.held -= spare
	}
}

// whileWanted gives a context that ends once no flight is wanted any more.
func (c *convoy) whileWanted() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.ctx)
	var left atomic.Int64
	left.Store(int64(len(c.riders)))
	for _, r := range c.riders {
		context.AfterFunc(r.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, cancel
}

// ride brings the blob to r's home, if it lacks it as that of the lead does. It
// tells looked when that is known; ready, which is put back for the others, tells
// when there are slots.
func (r *rider) ride(m *member, looked chan<- struct{}, ready chan error) {
	var there bool
	var err error
	if r != r.lead {
		if there, err = r.m.look(r.ctx, r.to, r.piece); there || err != nil {
			r.landed(r.piece.Blob.Desc, pipeline.Present, err)
		}
	}
	looked <- struct{}{}
	if there || err != nil {
		return
	}
	select {
	case err = <-ready:
		ready <- err
	case <-r.ctx.Done():
		err = context.Cause(r.ctx)
	}
	if err != nil {
		r.landed(oci.Descriptor{}, 0, err)
		return
	}
	r.upload(m)
}

// look asks whether m's home has p, by the request that begins its upload if not.
func (m *mover) look(ctx context.Context, mounter oci.Mounter, p pipeline.Piece) (bool, error) {
	there, err := mounter.Mount(ctx, p.Blob.Desc, m.to.Repository)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	m.count.asked.Add(1)
	if err == nil && there {
		m.mounted(false)
		m.count.present.Add(1)
		return true, nil
	}
	if p.Size > largeBlob && !m.tells() {
		return m.has(ctx, p.Blob.Desc)
	}
	return false, nil
}

// landed says what became of r.
func (r *rider) landed(d oci.Descriptor, way pipeline.Way, err error) {
	r.land(d, way, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	r.left--
	r.settle()
	r.change.ring()
}

// upload puts the blob into r's home. What fails of the read for all, which is
// the lead's, each of the others tries with its own.
func (r *rider) upload(m *member) {
	d, err := r.put(m.open)
	m.leave()
	if err != nil && r != r.lead && r.ctx.Err() == nil && errors.Is(err, r.tee.failure()) {
		r.count.takenOver.Add(1)
		d, err = r.put(r.alone)
	}
	if err == nil && r != r.lead && !r.own.Load() {
		r.count.shared.Add(1)
	}
	way := pipeline.Relayed
	if r.far.Load() {
		way = pipeline.Fetched
	}
	r.landed(d, way, err)
}

func (r *rider) put(open opener) (oci.Descriptor, error) {
	b := r.piece.Blob
	b.Open = open
	d, err := r.m.dest.PutBlob(r.ctx, b)
	if err == nil {
		r.count.put.Add(1)
	}
	return d, err
}

// alone reads for r alone. Until the blob is somewhere at the destination one
// upload at a time reads at the source, and only while no other may land without.
func (r *rider) alone(ctx context.Context) (io.ReadCloser, error) {
	r.own.Store(true)
	if err := r.turn(ctx); err != nil {
		return nil, err
	}
	return r.read(ctx)
}

// turn returns when r is to read.
func (r *rider) turn(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	defer func() { r.active++ }()
	r.change.ring()
	for {
		_, somewhere := r.first[r.k]
		switch {
		case somewhere:
			return nil
		case r.faults >= maxFaults:
			return r.fault
		case r.active == 0:
			return nil
		}
		change := r.change.wait()
		r.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// read reads the blob where it is.
func (r *rider) read(ctx context.Context) (io.ReadCloser, error) {
	r.mu.Lock()
	origin, somewhere := r.first[r.k]
	from := ""
	if somewhere {
		from = r.names[origin]
	}
	r.mu.Unlock()
	r.far.Store(false)
	if somewhere {
		near := counted{Source: r.to.Sibling(from), blobs: &r.count.relayed, bytes: func(int64) {}}
		rc, err := near.Fetch(ctx, r.piece.Blob.Desc)
		if !errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrDenied) {
			return rc, err
		}
	}
	r.far.Store(true)
	rc, err := r.piece.Blob.Open(ctx)
	if err != nil {
		return nil, r.blame(err)
	}
	return &blamed{rc, r.convoy}, nil
}

// blame notes wrong bytes of the source: to read those again for each upload
// would be in vain.
func (c *convoy) blame(err error) error {
	if errors.Is(err, oci.ErrDigestMismatch) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults++
		c.fault = err
	}
	return err
}

// blamed is content of the source.
type blamed struct {
	io.ReadCloser
	*convoy
}

func (b *blamed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, b.blame(err)
}
