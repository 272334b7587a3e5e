package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

// A sibling is a tag of cosign's about the manifest of a tag that is deleted. Quay
// ends them with the last tag that means the manifest, though a list may hold it yet
// whose users verify it.
type sibling struct {
	tag     takenTag // without kind
	expires time.Time
	intent  int
}

// siblings looks which of tags there are beside ref, and keeps what they mean.
func (r *run) siblings(ctx context.Context, ref oci.Ref, tags []string) ([]sibling, error) {
	refs := make([]oci.Ref, len(tags))
	for i, tag := range tags {
		refs[i] = beside(ref, tag)
	}
	states, err := r.snapshots(ctx, refs)
	if err != nil {
		return nil, err
	}
	var there []sibling
	for i, s := range states {
		if s.Absent {
			continue
		}
		s.Raw = nil // the journal has it
		b := sibling{tag: takenTag{tag: tags[i], digest: s.digest(), from: s}}
		if r.p.quay(ref.Registry) != nil {
			if _, b.expires, err = r.now(ctx, refs[i], true); err != nil {
				return nil, err
			}
		}
		there = append(there, b)
	}
	return there, nil
}

// announce writes into the journal that siblings may go with ref.
func (r *run) announce(ref oci.Ref, siblings []sibling) (err error) {
	for i := range siblings {
		b := &siblings[i]
		if b.intent, err = r.journal.Intent(beside(ref, b.tag.tag).Tagged(), journal.Delete, "", b.expires); err != nil {
			return err
		}
	}
	return nil
}

// bringBack looks which of siblings went with ref. Those that t is to take away it
// notes there; the others get back what they meant.
func (r *run) bringBack(ctx context.Context, ref oci.Ref, siblings []sibling, t *taking) error {
	var errs []error
	for _, b := range siblings {
		to := beside(ref, b.tag.tag)
		now, _, err := r.now(ctx, to, false)
		switch {
		case err == nil && now != "":
		case err == nil && t.goes[to.Tag]:
			t.went[to.Tag] = nil
		case err == nil:
			err = r.bringOneBack(ctx, to, b)
		}
		if err == nil {
			err = r.journal.Done(b.intent)
		} else {
			err = t.unsure(ref, b, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unsure notes that b may have gone with ref, which nobody can tell because of err.
func (t *taking) unsure(ref oci.Ref, b sibling, err error) error {
	err = fmt.Errorf("%s may have gone with %s: %w", b.tag.tag, ref.Tagged(), err)
	if t.goes[b.tag.tag] {
		t.went[b.tag.tag] = err
	}
	return err
}

func (r *run) bringOneBack(ctx context.Context, ref oci.Ref, b sibling) error {
	was := Content{Desc: b.tag.from.Desc}
	var err error
	if was.Raw, err = r.journal.Content(was.Desc.Digest); err != nil {
		return err
	}
	if err = r.put(ctx, ref, state{Absent: true}, was); errors.Is(err, oci.ErrMoved) {
		return nil // somebody else has made it anew
	}
	if err == nil {
		for _, w := range r.expireAgain(ctx, journal.Tag{Ref: ref, Before: journal.State{Expires: b.expires}}) {
			r.p.warn(ref.Tagged() + ": " + w)
		}
	}
	return err
}

// beside gives the tag of ref's repository.
func beside(ref oci.Ref, tag string) oci.Ref {
	return oci.Ref{Registry: ref.Registry, Repository: ref.Repository, Tag: tag}
}
