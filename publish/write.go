package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

// guarded is what a tag of [Publisher.GuardOld] is for.
type guarded struct {
	ref  oci.Ref // the tag of ours
	kept state   // what it means
}

// put lets the tag ref mean to, if it still means from: one look before, the PUT,
// one HEAD after. It returns an error matching [oci.ErrMoved] if it doesn't, and
// nothing was written then. What a tag means already isn't written again.
func (r *run) put(ctx context.Context, ref oci.Ref, from state, to Content) error {
	repo, err := r.dest(ref)
	if err != nil {
		return err
	}
	return r.write(ctx, ref, from, to.Desc.Digest, func(ctx context.Context) error {
		_, err := repo.Put(ctx, ref.Tag, to.Desc.MediaType, to.Raw)
		return err
	})
}

// write is put, where do is what lets the tag mean to.
//
// The registry's answer to do may be lost, or it may agree to what it doesn't keep:
// what counts is what the tag means afterwards.
func (r *run) write(ctx context.Context, ref oci.Ref, from state, to oci.Digest, do func(context.Context) error) error {
	if r.journal == nil {
		return errDry
	}
	now, expires, err := r.now(ctx, ref, !from.Absent)
	switch {
	case err != nil:
		return err
	case now == to:
		return nil
	case now != from.digest():
		return moved(ref, from.digest(), now)
	}
	if r.p.GuardOld && !from.Absent {
		if err := r.guardOld(ctx, ref, from); err != nil {
			return err
		}
	}
	n, err := r.journal.Intent(ref.Tagged(), journal.Put, to, expires)
	if err != nil {
		return err
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	doErr := do(ctx)
	after, _, err := r.now(ctx, ref, false)
	switch {
	case err == nil && after == to:
		return r.journal.Done(n)
	case doErr != nil:
		return doErr
	case err != nil:
		return err
	}
	return oci.Wrap(fmt.Errorf("%w: the registry took %s, and the tag means %s", oci.ErrDigestMismatch, to, orNothing(after)),
		"put manifest", ref.Tagged(), oci.Descriptor{})
}

// errDry is what a write in a dry run is: a mistake of ours.
var errDry = errors.New("nothing is written in a dry run")

// afterlife is how long a write goes on after its run was told to end.
const afterlife = 3 * time.Second

// outlive gives a context that ends somewhat after ctx: a write that was sent is
// to be answered, or it might take effect after a rollback has looked at the tag.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(afterlife)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(context.Cause(ctx))
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

func moved(ref oci.Ref, from, now oci.Digest) error {
	return oci.Wrap(fmt.Errorf("%w: it was %s and is %s", oci.ErrMoved, orNothing(from), orNothing(now)), "move tag", ref.Tagged(), oci.Descriptor{})
}

func orNothing(d oci.Digest) string {
	if d == "" {
		return "nothing"
	}
	return string(d)
}

// remove takes the tag ref away, and nothing else, if it still means from. It
// returns an error matching [oci.ErrMoved] if it doesn't; that it is gone already
// is no error. Where the registry deletes by digest only the error matches
// [oci.ErrUnsupported], unless the Publisher allows it and no other tag leads to it.
func (r *run) remove(ctx context.Context, ref oci.Ref, from state) error {
	return r.removeBeside(ctx, ref, from, companion.Tags(from.digest()), &taking{})
}

// removeBeside is remove, where siblings are the tags about what ref means that may
// be there. Of them t's may go with it.
func (r *run) removeBeside(ctx context.Context, ref oci.Ref, from state, siblings []string, t *taking) error {
	if r.journal == nil {
		return errDry
	}
	kept, err := r.siblings(ctx, ref, siblings)
	if err != nil {
		return err
	}
	now, expires, err := r.now(ctx, ref, true)
	if err == nil && now == "" {
		// Anything in between can make the 404 of a HEAD. Where nothing is to be done
		// for it, it is proved.
		now, err = r.means(ctx, ref)
	}
	switch {
	case err != nil:
		return err
	case now == "":
		return nil
	case now != from.digest():
		return moved(ref, from.digest(), now)
	}
	if err := r.announce(ref, kept); err != nil {
		return err
	}
	n, err := r.journal.Intent(ref.Tagged(), journal.Delete, "", expires)
	if err != nil {
		return err
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	delErr := r.delete(ctx, ref, from.digest())
	after, _, err := r.now(ctx, ref, false)
	switch {
	case err == nil && after == "":
		return errors.Join(r.journal.Done(n), r.bringBack(ctx, ref, kept, t))
	case err != nil:
		for _, b := range kept {
			_ = t.unsure(ref, b, err)
		}
		return cmp.Or(delErr, err)
	case delErr != nil:
		return delErr
	}
	return oci.Wrap(fmt.Errorf("the registry agreed, and the tag still means %s", after), "delete tag", ref.Tagged(), oci.Descriptor{})
}

// delete takes ref away, which means d: by its tag, or where the registry can't and
// the Publisher allows it by d, if no other tag means d or a list that holds it.
func (r *run) delete(ctx context.Context, ref oci.Ref, d oci.Digest) error {
	err := r.deleteTag(ctx, ref)
	if !errors.Is(err, oci.ErrUnsupported) {
		return err
	}
	if !r.p.AllowDigestDelete {
		return fmt.Errorf("%w; --allow-digest-delete deletes the manifest, where no other tag has it", err)
	}
	s, err := r.scan(ctx, ref, nil)
	if err != nil {
		return err
	}
	if s.tags[ref.Tag] != d || !newRemoval(s, []string{ref.Tag}).dead[d] {
		return oci.Refuse(fmt.Sprintf("the registry deletes by digest only, and another tag needs %s too, which %s means", d, ref.Tagged()))
	}
	repo, err := r.dest(ref)
	if err != nil {
		return err
	}
	return repo.DeleteManifest(ctx, d)
}

// deleteTag takes the tag ref away: on a Quay by its API, where there is a token.
func (r *run) deleteTag(ctx context.Context, ref oci.Ref) error {
	if client := r.p.quay(ref.Registry); client != nil {
		err := client.DeleteTag(ctx, ref.Repository, ref.Tag)
		if !errors.Is(err, oci.ErrDenied) {
			return err
		}
		// A token that may only read; the login may do more.
	}
	repo, err := r.dest(ref)
	if err != nil {
		return err
	}
	return repo.DeleteTag(ctx, ref.Tag)
}

// guardOld keeps what ref means under a tag of the run's own, once. It stays until
// the run has succeeded, so that no registry collects what a rollback needs.
func (r *run) guardOld(ctx context.Context, ref oci.Ref, from state) error {
	key := ref.Tagged()
	r.mu.Lock()
	_, there := r.guards[key]
	guard := guarded{ref, from}
	if !there {
		r.guarded++
		guard.ref.Tag = fmt.Sprintf("rollback-%s-%d", r.name, r.guarded)
		r.guards[key] = guard
	}
	r.mu.Unlock()
	if there {
		return nil
	}
	// Nobody else has such a name, which is as good as a proof.
	err := r.journal.Snapshot(guard.ref.Tagged(), journal.State{Absent: true}, nil)
	if err == nil {
		err = r.put(ctx, guard.ref, state{Absent: true}, from.Content)
	}
	if err != nil { // who tries again needs another
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.guards, key)
	}
	return err
}
