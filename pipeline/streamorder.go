package pipeline

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// inTurn brings the layer b if it is its turn, and puts it aside if it isn't, or
// if nobody can say.
func (s *streaming) inTurn(ctx context.Context, l *streamed, b oci.Blob) error {
	st, err := openPart(ctx, b)
	if err != nil {
		return err
	}
	defer st.close()
	if id := s.diffID(l); id != "" && s.isNext(id) && !s.comesAgain(id) && !(s.reads() && s.opt.Filters.Changes) {
		before := s.again
		if err := s.bring(ctx, l, st, s.next); err != nil || s.again > before {
			return err
		}
		if l.was != id {
			return s.misplaced(l, s.next)
		}
		s.next++
		return s.deliver(ctx)
	}
	if err := s.putAside(ctx, l, st); err != nil {
		return err
	}
	return s.deliver(ctx)
}

func (s *streaming) misplaced(l *streamed, place int) error {
	return fmt.Errorf("%w: layer %d: its diffID is %s, the config says %s", oci.ErrDigestMismatch, place, l.was, s.ids()[place])
}

// isNext reports whether it is the turn of the layer with diffID id.
func (s *streaming) isNext(id oci.Digest) bool {
	ids := s.ids()
	return s.next < len(ids) && ids[s.next] == id
}

// comesAgain reports whether the layer that is next is needed further on.
func (s *streaming) comesAgain(id oci.Digest) bool {
	for _, other := range s.ids()[s.next+1:] {
		if other == id {
			return true
		}
	}
	return false
}

// putAside keeps l's content until it is its turn.
func (s *streaming) putAside(ctx context.Context, l *streamed, st *stock) error {
	rc, err := st.open(ctx)
	if err != nil {
		return err
	}
	defer rc.Close()
	spooled, err := s.pile.Add(ctx, rc)
	if err == nil {
		err = st.drain()
	}
	if st.broken != nil {
		return &brokenError{st.broken}
	}
	if err != nil {
		return err
	}
	if err := l.same(st); err != nil {
		return err
	}
	l.spooled, l.source = spooled, st.desc
	// The digest of the tar says whose turn it is.
	r, err := spooled.Open()
	if err != nil {
		return err
	}
	got, err := layer.Recode(ctx, discard{}, r, st.desc, layer.PassOptions{Codec: layer.None, Spare: layer.SpareBlob})
	l.was = got.DiffID
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// deliver brings the layers that are put aside as far as it is their turn.
func (s *streaming) deliver(ctx context.Context) error {
	ids := s.ids()
	for s.Traits.Ordered && s.next < len(ids) {
		l := s.aside(ids[s.next])
		if l == nil {
			return nil
		}
		st, err := spooledStock(l.source, l.spooled)
		if err != nil {
			return err
		}
		err = s.bring(ctx, l, st, s.next)
		st.close()
		if err != nil {
			return oci.Wrap(err, "copy layer", s.report.Reference, l.source)
		}
		s.next++
	}
	return nil
}

// beginOrder begins to deliver from the lowest layer again: what a target made of
// them may be spoilt. What was put aside still is.
func (s *streaming) beginOrder() {
	if !s.Traits.Ordered {
		return
	}
	s.next = 0
	for _, l := range s.layers {
		l.done = false
	}
}

// aside gives the layer with diffID id if it is put aside.
func (s *streaming) aside(id oci.Digest) *streamed {
	for _, l := range s.layers {
		if l.spooled != nil && l.was == id {
			return l
		}
	}
	return nil
}
