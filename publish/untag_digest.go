package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/oci"
)

// A digestDelete deletes tags of one repository where the registry can't delete a
// tag: by the manifest, with all tags that mean it. What else needs a manifest is
// looked up anew once for the repository, just before the first of them goes.
type digestDelete struct {
	*run
	t    *taking
	dead map[oci.Digest]bool // of the tags' manifests, what nothing else needs
	same map[oci.Digest][]takenTag
	// above has the tags whose lists hold a manifest of another tag. They go first:
	// a list that stays, since it could not be deleted, keeps its images.
	above map[oci.Digest][]takenTag
}

// byDigest looks at the repository of t again.
func (r *run) byDigest(ctx context.Context, t *taking) (*digestDelete, error) {
	s, err := r.scan(ctx, t.repo, nil)
	if err != nil {
		return nil, err
	}
	d := &digestDelete{run: r, t: t, same: map[oci.Digest][]takenTag{}, above: map[oci.Digest][]takenTag{}}
	var tags []string
	for _, tag := range t.tags {
		// One that was moved is not ours to delete any more: it survives.
		if now, there := s.tags[tag.tag]; there && now == tag.digest {
			tags = append(tags, tag.tag)
			d.same[now] = append(d.same[now], tag)
		}
	}
	d.dead = newRemoval(s, tags).dead
	for list, same := range d.same {
		seen := map[oci.Digest]bool{list: true}
		for todo := slices.Clone(s.children[list]); len(todo) > 0; {
			c := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if seen[c] {
				continue
			}
			seen[c] = true
			todo = append(todo, s.children[c]...)
			if d.same[c] != nil {
				d.above[c] = append(d.above[c], same[0])
			}
		}
	}
	return d, nil
}

// remove deletes tag's manifest, and so all tags that mean it, each of which has its
// line in the journal before: each can be restored by itself.
func (d *digestDelete) remove(ctx context.Context, tag takenTag) error {
	ref := d.t.tag(tag.tag)
	at, err := d.dest(ref)
	if err != nil {
		return err
	}
	same := d.same[tag.digest]
	switch {
	case len(same) == 0:
		return d.removeBeside(ctx, ref, tag.from, nil, d.t) // it is gone, or was moved
	case !d.dead[tag.digest]:
		return oci.Wrap(fmt.Errorf("%w: the registry deletes by digest only, and another tag needs %s", oci.ErrUnsupported, tag.digest), "delete tag", ref.String(), oci.Descriptor{})
	}
	for _, list := range d.above[tag.digest] {
		if unsure, went := d.t.went[list.tag]; went && unsure == nil {
			continue
		}
		if err := d.remove(ctx, list); err != nil {
			return fmt.Errorf("the list that holds %s: %w", ref.Tagged(), err)
		}
	}
	var intents []int
	for _, other := range same {
		ref.Tag = other.tag
		now, _, err := d.now(ctx, ref, false)
		switch {
		case err != nil:
			return err
		case now == "": // it went with another tag
			continue
		case now != tag.digest:
			return moved(ref, tag.digest, now)
		}
		n, err := d.journal.Intent(ref.Tagged(), journal.Delete, "", time.Time{})
		if err != nil {
			return err
		}
		intents = append(intents, n)
	}
	if len(intents) == 0 {
		return nil
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	deleteErr := at.DeleteManifest(ctx, tag.digest)
	for _, other := range same {
		ref.Tag = other.tag
		switch after, _, err := d.now(ctx, ref, false); {
		case err == nil && after == "":
		case err != nil:
			for _, other := range same {
				d.t.went[other.tag] = fmt.Errorf("it may have gone with %s: %w", tag.tag, err)
			}
			return cmp.Or(deleteErr, err)
		case deleteErr != nil:
			return deleteErr
		default:
			return oci.Wrap(fmt.Errorf("the registry agreed, and the tag still means %s", after), "delete tag", ref.Tagged(), oci.Descriptor{})
		}
	}
	for _, other := range same {
		d.t.went[other.tag] = nil
	}
	for _, n := range intents {
		if err := d.journal.Done(n); err != nil {
			return err
		}
	}
	return nil
}
