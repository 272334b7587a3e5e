package bulk

import (
	"context"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// keyOfMaking stands for what mk comes to, whichever image it is of.
func keyOfMaking(mk *pipeline.Making) key {
	return keyOf(oci.Digest("made of " + string(mk.From.Digest) + " by " + mk.How))
}

// Make implements [pipeline.Mover]. A layer that images share goes through the
// filters, or is recoded, once: who comes later waits, and gets the result as any other blob.
func (m *mover) Make(ctx context.Context, mk *pipeline.Making) (pipeline.Made, pipeline.Way, error) {
	k := keyOfMaking(mk)
	for again := false; ; again = true {
		made, f, mine, err := m.joinMaking(k, mk, again)
		switch {
		case err != nil:
			return pipeline.Made{}, 0, err
		case made != nil:
			return m.takeMade(ctx, mk, *made)
		}
		select {
		case <-f.done:
			if mine && f.err == nil {
				return *f.made, f.way, nil
			}
			if mine {
				return pipeline.Made{}, 0, f.err
			}
		case <-ctx.Done():
			m.leave(f)
			return pipeline.Made{}, 0, context.Cause(ctx)
		}
	}
}

// Known implements [pipeline.Mover].
func (m *mover) Known(mk *pipeline.Making) (pipeline.Made, bool) {
	m.mu.Lock()
	made := m.made[keyOfMaking(mk)]
	m.mu.Unlock()
	if made != nil {
		return *made, true
	}
	return m.remembered(mk)
}

// takeMade brings what is known to be made of mk to m's home.
func (m *mover) takeMade(ctx context.Context, mk *pipeline.Making, made pipeline.Made) (pipeline.Made, pipeline.Way, error) {
	if made.Unchanged || made.Digest == "" {
		return made, pipeline.Present, nil
	}
	if mk.Sure && made.Restarts > 0 {
		return m.make(ctx, mk) // this pass doesn't know yet why it has to begin again
	}
	for {
		_, way, err := m.Move(ctx, mk.Piece(made))
		if !pipeline.IsRestart(err) {
			return made, way, err
		}
		m.count.restarted.Add(1)
	}
}

// joinMaking gives what came of k, or the flight that makes it and whether it
// was begun for m.
func (m *mover) joinMaking(k key, mk *pipeline.Making, again bool) (made *pipeline.Made, f *flight, mine bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if made := m.made[k]; made != nil {
		return made, nil, false, nil
	}
	for _, f := range m.flights[k] {
		f.wanted++
		return nil, f, false, nil
	}
	if bad := m.broken[k]; bad != nil && bad.times >= maxFaults {
		return nil, nil, false, bad.err
	}
	if again {
		m.count.takenOver.Add(1)
	}
	f = m.begin(k, func(f *flight) {
		var made pipeline.Made
		if made, f.way, f.err = m.make(f.ctx, mk); f.err == nil {
			f.made = &made
		}
	})
	return nil, f, true, nil
}

// make makes mk, or takes it from the layer cache.
func (m *mover) make(ctx context.Context, mk *pipeline.Making) (pipeline.Made, pipeline.Way, error) {
	if made, ok := m.remembered(mk); ok {
		way, there, err := m.find(ctx, mk, made)
		if err != nil {
			return pipeline.Made{}, 0, err
		}
		if there {
			m.count.fromCache.Add(1)
			return made, way, nil
		}
	}
	if m.dry {
		return pipeline.Made{}, pipeline.Fetched, nil
	}
	if m.cache != nil {
		mk.Compare = false // what it doesn't know is new
	}
	made, way, err := m.pass(ctx, mk)
	if err != nil {
		return made, way, err
	}
	m.count.restarted.Add(int64(made.Restarts))
	switch {
	case made.Unchanged:
		m.count.unchanged.Add(1)
	case mk.Recodes:
		m.count.recoded.Add(1)
	default:
		m.count.filtered.Add(1)
	}
	if !made.Unchanged && way == pipeline.Fetched {
		m.count.put.Add(1)
	}
	m.remember(mk, made)
	return made, way, nil
}

// pass takes mk through its filters and sends what comes of it.
func (m *mover) pass(ctx context.Context, mk *pipeline.Making) (pipeline.Made, pipeline.Way, error) {
	if err := m.slots.acquire(ctx, 1, mk.From.Size); err != nil {
		return pipeline.Made{}, 0, err
	}
	defer m.slots.release(1)
	if err := m.passes.Acquire(ctx, 1); err != nil {
		return pipeline.Made{}, 0, err
	}
	defer m.passes.Release(1)
	return mk.Bring(ctx, m.dest.Destination)
}

// find looks whether the blob that an earlier run made is where m can have it.
func (m *mover) find(ctx context.Context, mk *pipeline.Making, made pipeline.Made) (way pipeline.Way, there bool, err error) {
	if made.Unchanged {
		return pipeline.Present, true, nil
	}
	desc := mk.Desc(made)
	if there, err = m.has(ctx, desc); there || err != nil {
		return pipeline.Present, there, err
	}
	mounter, ok := m.dest.Destination.(oci.Mounter)
	from := m.rememberedAt(mk)
	if !ok || from == "" || m.dry {
		return 0, false, nil
	}
	mounted, err := mounter.Mount(ctx, desc, from)
	switch {
	case ctx.Err() != nil:
		return 0, false, context.Cause(ctx)
	case err != nil || !mounted:
		m.count.refused.Add(1)
		return 0, false, nil // it is made anew
	}
	m.count.mounted.Add(1)
	return pipeline.Mounted, true, nil
}
