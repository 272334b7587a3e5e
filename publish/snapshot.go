package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// Content is a manifest with its bytes.
type Content struct {
	Desc oci.Descriptor // media type, digest, size
	Raw  []byte
}

// A state is what a tag meant when it was looked at.
type state struct {
	Absent  bool // it is proved that there was none
	Content      // of what is there
	// Partial says that it is a list with entries that the repository doesn't
	// have, so that a rollback may not bring back what it was.
	Partial bool
}

// digest is what the tag means, "" for nothing.
func (s state) digest() oci.Digest { return s.Desc.Digest }

// snapshot reads what the tag ref means now, and enters it into the journal. That
// it means nothing has to be proved: 404, or for a registry that hides what isn't
// there behind 401 the same answer to an identity that may push. Any other answer
// is an error, and nothing may be written then. In a dry run nothing is asked for
// that would create the repository; what stays unproved is an error matching
// [oci.ErrDenied].
//
// A tag may be looked at again, after [oci.ErrMoved]: the journal has both, and a
// rollback restores the last state that was there before the run's first write.
func (r *run) snapshot(ctx context.Context, ref oci.Ref) (state, error) {
	states, err := r.snapshots(ctx, []oci.Ref{ref})
	return states[0], err
}

// snapshots is snapshot of many tags, several at once. Only when all others have
// been read is a proof asked for that creates a repository on Quay.
func (r *run) snapshots(ctx context.Context, refs []oci.Ref) ([]state, error) {
	states := make([]state, len(refs))
	var mu sync.Mutex
	var hidden []int
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for i, ref := range refs {
		g.Go(safely(func() error {
			s, known, err := r.read(gctx, ref)
			if err != nil || known {
				states[i] = s
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			hidden = append(hidden, i)
			return nil
		}))
	}
	if err := g.Wait(); err != nil {
		return states, err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for _, i := range hidden {
		g.Go(safely(func() (err error) {
			states[i], err = r.prove(gctx, refs[i])
			return err
		}))
	}
	return states, g.Wait()
}

// read asks what ref means, and enters it into the journal. It is not known where
// the registry shows nothing of the repository to who only reads: then
// [run.prove] can tell.
func (r *run) read(ctx context.Context, ref oci.Ref) (s state, known bool, err error) {
	s, known, err = r.ask(ctx, ref)
	if err == nil && known {
		s, err = r.keep(ctx, ref, s)
	}
	return s, known, err
}

// ask is read that enters nothing.
func (r *run) ask(ctx context.Context, ref oci.Ref) (s state, known bool, err error) {
	repo, err := r.dest(ref)
	if err != nil {
		return state{}, false, err
	}
	desc, raw, err := repo.Resolve(ctx, ref.Tag)
	if err == nil || registry.Absent(err) {
		r.mu.Lock()
		delete(r.gone, ref.Name()) // somebody may have made it
		r.mu.Unlock()
	}
	switch {
	case err == nil:
		return state{Content: Content{desc, raw}}, true, nil
	case registry.Absent(err):
		return state{Absent: true}, true, nil
	case errors.Is(err, oci.ErrNotFound):
		return state{}, false, unproved(ref, err)
	case !errors.Is(err, oci.ErrDenied):
		return state{}, false, err
	}
	r.mu.Lock()
	gone, apiErr := r.gone[ref.Name()], error(nil)
	r.mu.Unlock()
	if !gone {
		gone, apiErr = r.noRepository(ctx, ref)
	}
	switch {
	case gone:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gone[ref.Name()] = true
		return state{Absent: true}, true, nil
	case apiErr != nil:
		return state{}, false, apiErr
	case r.p.DryRun:
		return state{}, false, unproved(ref, err)
	}
	return state{}, false, nil
}

// unproved is the error of a tag that may be there or not.
func unproved(ref oci.Ref, err error) error {
	return fmt.Errorf("whether there is a tag %s can't be told: %w", ref.Tagged(), err)
}

// noRepository reports whether Quay's API says that the repository of ref isn't
// there. It says so to administrators; to others it says nothing.
func (r *run) noRepository(ctx context.Context, ref oci.Ref) (bool, error) {
	client := r.p.quay(ref.Registry)
	if client == nil {
		return false, nil
	}
	_, err := client.Repository(ctx, ref.Repository)
	switch {
	case err == nil, errors.Is(err, oci.ErrDenied), notQuay(err): // no Quay's 404 proves nothing
		return false, nil
	case quay.NotVisible(err):
		return true, nil
	}
	return false, err
}

// prove asks for ref as one who may push. A repository of Quay is then there.
func (r *run) prove(ctx context.Context, ref oci.Ref) (state, error) {
	repo, err := r.dest(ref)
	if err != nil {
		return state{}, err
	}
	missing, err := repo.Missing(ctx, ref.Tag)
	switch {
	case err != nil:
		return state{}, unproved(ref, err)
	case missing:
		return r.keep(ctx, ref, state{Absent: true})
	}
	desc, raw, err := repo.Resolve(ctx, ref.Tag)
	if err != nil {
		return state{}, unproved(ref, err)
	}
	return r.keep(ctx, ref, state{Content: Content{desc, raw}})
}

// keep looks whether what a list names is there, and enters s into the journal.
func (r *run) keep(ctx context.Context, ref oci.Ref, s state) (state, error) {
	if r.journal == nil {
		return s, nil
	}
	if !s.Absent && oci.IsIndexType(s.Desc.MediaType) {
		lost, err := r.lostChildren(ctx, ref, s.Content)
		if err != nil {
			return s, err
		}
		if s.Partial = len(lost) > 0; s.Partial {
			r.p.warn(fmt.Sprintf("%s: its list names %s, which isn't there: what the tag means now could be restored in part only", ref.Tagged(), lost[0]))
		}
	}
	was := journal.State{Absent: s.Absent, Digest: s.Desc.Digest, MediaType: s.Desc.MediaType, Partial: s.Partial}
	return s, r.journal.Snapshot(ref.Tagged(), was, s.Raw)
}

// lostChildren gives the entries of the list c that the repository of ref doesn't
// have.
func (r *run) lostChildren(ctx context.Context, ref oci.Ref, c Content) ([]oci.Digest, error) {
	m, err := oci.ParseManifest(c.Desc.MediaType, c.Raw)
	if err != nil {
		return nil, oci.Wrap(err, "read the list of", ref.Tagged(), c.Desc)
	}
	there := make([]bool, len(m.Manifests))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for i, d := range m.Manifests {
		g.Go(safely(func() (err error) {
			there[i], err = r.has(gctx, ref, d.Digest)
			return err
		}))
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var lost []oci.Digest
	for i, d := range m.Manifests {
		if !there[i] {
			lost = append(lost, d.Digest)
		}
	}
	return lost, nil
}

// has reports whether the repository of ref has the manifest d. What was there once
// in this run isn't asked for again, and a repository that isn't there has none: to
// ask it would be answered as if it were hidden.
func (r *run) has(ctx context.Context, ref oci.Ref, d oci.Digest) (bool, error) {
	key := ref.Name() + "@" + string(d)
	r.mu.Lock()
	there, gone := r.children[key], r.gone[ref.Name()]
	r.mu.Unlock()
	if there || gone {
		return there, nil
	}
	repo, err := r.dest(ref)
	if err != nil {
		return false, err
	}
	_, err = repo.Head(ctx, string(d))
	switch {
	case err == nil:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.children[key] = true
		return true, nil
	case errors.Is(err, oci.ErrNotFound):
		return false, nil
	}
	return false, err
}

// now asks what ref means at this moment: a HEAD, or where its expiry can be told
// too a question to Quay's API in its place.
func (r *run) now(ctx context.Context, ref oci.Ref, expiry bool) (d oci.Digest, expires time.Time, err error) {
	client := r.p.quay(ref.Registry)
	r.mu.Lock()
	mute := r.mute[ref.Name()]
	r.mu.Unlock()
	if expiry && client != nil && !mute {
		t, err := client.Tag(ctx, ref.Repository, ref.Tag)
		switch {
		case err == nil:
			return t.Digest, t.End, nil
		case errors.Is(err, oci.ErrNotFound) && !quay.NotVisible(err): // the repository is there, the tag isn't
			return "", time.Time{}, nil
		case !quay.NotVisible(err):
			return "", time.Time{}, err
		}
		r.mu.Lock()
		r.mute[ref.Name()] = true
		r.mu.Unlock()
	}
	repo, err := r.dest(ref)
	if err != nil {
		return "", time.Time{}, err
	}
	desc, err := repo.Head(ctx, ref.Tag)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return "", time.Time{}, nil
	case errors.Is(err, oci.ErrDenied):
		// As when it was looked at first.
		if gone, apiErr := r.noRepository(ctx, ref); gone || apiErr != nil {
			return "", time.Time{}, apiErr
		}
	}
	return desc.Digest, time.Time{}, err
}
