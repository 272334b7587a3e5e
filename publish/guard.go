package publish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// DefaultGuard is the template that guard tags have if the user names none.
const DefaultGuard = "{tag}-{timestamp}"

// A Guard keeps what a tag is to mean under a second tag, which is there before the
// tag moves and stays when it moves on, so that no registry collects it meanwhile.
// The zero value keeps nothing.
type Guard struct {
	// Template is the second tag's name, as [DefaultGuard]: {tag} is the first one's,
	// {timestamp} Unix seconds, {digest} the digest without its algorithm. It must
	// have {digest}, or {tag} and {timestamp}: others would overwrite each other.
	// "" is no guard.
	Template string
	// Expire is how long the second tag is kept, where the registry is a Quay whose
	// API may be used; elsewhere it stays until somebody deletes it. 0 is for ever. One
	// that is there already, by its {digest}, and would go sooner is kept longer, which
	// no rollback takes back.
	Expire time.Duration
}

// check returns an error matching [oci.ErrUsage] if g can't guard all of tags.
func (g Guard) check(tags ...oci.Ref) error {
	if g.Template == "" {
		return nil
	}
	has := func(what string) bool { return strings.Contains(g.Template, what) }
	if !has("{digest}") && (!has("{tag}") || !has("{timestamp}")) {
		return oci.Usage(fmt.Sprintf("guard tag %q: it must hold {digest}, or {tag} and {timestamp}, or one would overwrite another", g.Template))
	}
	if g.Expire < 0 {
		return oci.Usage(fmt.Sprintf("guard tag %q: it can't expire %s ago", g.Template, -g.Expire))
	}
	sample := oci.Digest("sha256:" + strings.Repeat("0", 64))
	for _, ref := range append([]oci.Ref{{Tag: "t"}}, tags...) {
		if _, err := g.tag(ref.Tag, sample, time.Unix(1e10, 0)); err != nil {
			return err
		}
	}
	return nil
}

// tag gives the name of the tag that keeps d for the tag of.
func (g Guard) tag(of string, d oci.Digest, now time.Time) (string, error) {
	text := strings.NewReplacer("{tag}", of, "{timestamp}", strconv.FormatInt(now.Unix(), 10), "{digest}", d.Encoded()).Replace(g.Template)
	if !oci.ValidTag(text) {
		return "", oci.Usage(fmt.Sprintf("guard tag %q of %s would be %q, which is none; it can have {tag}, {timestamp} and {digest}, and 128 characters", g.Template, of, text))
	}
	return text, nil
}

// fits returns an error matching [oci.ErrUsage] if there can be no guard tag of d for
// dest: not all digests are as long as what check takes them for.
func (g Guard) fits(dest oci.Ref, d oci.Digest) error {
	if g.Template == "" {
		return nil
	}
	_, err := g.tag(dest.Tag, d, time.Now())
	return err
}

// guardTries is how many names a guard tag is tried under: two digests may want one
// in the same second.
const guardTries = 5

// guard gives what dest is to mean its guard tag.
func (r *run) guard(ctx context.Context, dest oci.Ref, to Content, g Guard) (Change, error) {
	change := Change{Reference: dest.Tagged(), Status: Failed, New: to.Desc.Digest, Companion: "guard"}
	err := r.guardTag(ctx, dest, to, g, &change)
	if err != nil {
		change.Error = err.Error()
	}
	return change, oci.Wrap(err, "guard", dest.Tagged(), to.Desc)
}

func (r *run) guardTag(ctx context.Context, dest oci.Ref, to Content, g Guard, change *Change) error {
	now := time.Now()
	for try := range guardTries {
		ref := dest
		var err error
		if ref.Tag, err = g.tag(dest.Tag, to.Desc.Digest, now.Add(time.Duration(try)*time.Second)); err != nil {
			return err
		}
		change.Reference = ref.Tagged()
		r.keepers.join(change.Reference)
		old, err := r.snapshot(ctx, ref)
		if err != nil {
			return err
		}
		switch {
		case old.digest() == to.Desc.Digest:
			change.Old, change.Status = old.digest(), Unchanged
			r.prolongGuard(ctx, ref, g, change)
			return nil
		case !old.Absent:
			continue // another digest is kept by that name
		}
		change.Attempts++
		err = r.put(ctx, ref, old, to)
		if errors.Is(err, oci.ErrMoved) {
			continue // somebody took the name meanwhile
		}
		if err != nil {
			return err
		}
		change.Status = Pushed
		return r.expireGuard(ctx, ref, g, change)
	}
	return fmt.Errorf("%s and the names after it are taken", change.Reference)
}

// planGuard says what guard would do. The time of a tag that isn't written yet is nobody's
// to know: its name has {timestamp}.
func (r *run) planGuard(ctx context.Context, dest oci.Ref, to Content, g Guard) (Change, error) {
	change := Change{Status: Planned, New: to.Desc.Digest, Companion: "guard"}
	if err := g.fits(dest, to.Desc.Digest); err != nil {
		return change, err
	}
	ref := dest
	ref.Tag = strings.NewReplacer("{tag}", dest.Tag, "{digest}", to.Desc.Digest.Encoded()).Replace(g.Template)
	change.Reference = ref.Tagged()
	if strings.Contains(g.Template, "{timestamp}") {
		return change, nil
	}
	old, err := r.snapshot(ctx, ref)
	if err != nil && !errors.Is(err, oci.ErrDenied) { // what can't be told counts as absent, as of the tag itself
		return change, err
	}
	if change.Old = old.digest(); change.Old == change.New {
		change.Status = Unchanged
	}
	return change, nil
}

// unguard takes away the guard tag that kept is about, where the run wrote it for dest
// alone: dest is not to mean after all what it keeps. It returns what is to be reported
// of it, nothing where it is gone.
func (r *run) unguard(ctx context.Context, dest oci.Ref, kept Change) []Change {
	if kept.Status != Pushed || !r.keepers.leave(kept.Reference) {
		return []Change{kept}
	}
	defer r.keepers.left(kept.Reference)
	ref := dest
	ref.Tag = kept.Reference[strings.LastIndexByte(kept.Reference, ':')+1:]
	if err := r.remove(ctx, ref, state{Content: alone(kept.New)}); err != nil {
		kept.Warnings = append(kept.Warnings, fmt.Sprintf("it keeps what %s didn't get, since somebody else moved that, and can't be taken away: %v", dest.Tagged(), err))
		return []Change{kept}
	}
	return nil
}

// keepers counts the tags of a run that each guard tag is for: those of one digest may
// share it. The zero value is ready.
type keepers struct {
	mu    sync.Mutex
	tags  map[string]int
	going map[string]chan struct{} // closed once the guard tag was taken away
}

// join counts one more for guard, once nobody is about to take it away.
func (k *keepers) join(guard string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for gone := k.going[guard]; gone != nil; gone = k.going[guard] {
		k.mu.Unlock()
		<-gone
		k.mu.Lock()
	}
	if k.tags == nil {
		k.tags, k.going = map[string]int{}, map[string]chan struct{}{}
	}
	k.tags[guard]++
}

// leave reports whether guard was for one tag only. It may be taken away then, and
// [keepers.left] is to be called.
func (k *keepers) leave(guard string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tags[guard] > 1 {
		return false
	}
	k.going[guard] = make(chan struct{})
	return true
}

func (k *keepers) left(guard string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.going[guard])
	delete(k.going, guard)
	delete(k.tags, guard)
}

// expireGuard lets the guard tag ref go away in due time.
func (r *run) expireGuard(ctx context.Context, ref oci.Ref, g Guard, change *Change) error {
	if g.Expire == 0 {
		return nil
	}
	client := r.p.quay(ref.Registry)
	if client == nil {
		change.Warnings = append(change.Warnings, "it stays: "+ref.Registry+" is no Quay, or there is no token of its API")
		return nil
	}
	_, err := client.ChangeExpiration(ctx, ref.Repository, ref.Tag, time.Now().Add(g.Expire))
	return err
}

// prolongGuard sees to it that the guard tag ref, which is there already, stays as long as
// g asks for. It warns where that can't be told: the tag keeps what it is to keep for now.
func (r *run) prolongGuard(ctx context.Context, ref oci.Ref, g Guard, change *Change) {
	client := r.p.quay(ref.Registry)
	if client == nil {
		return
	}
	var until time.Time // never
	if g.Expire > 0 {
		until = time.Now().Add(g.Expire)
	}
	tag, err := client.Tag(ctx, ref.Repository, ref.Tag)
	if err == nil && !tag.End.IsZero() && (until.IsZero() || tag.End.Before(until.Add(-guardSlack))) {
		_, err = client.ChangeExpiration(ctx, ref.Repository, ref.Tag, until)
	}
	if err != nil {
		change.Warnings = append(change.Warnings, fmt.Sprintf("it may go away sooner than it is to: %v", err))
	}
}

// guardSlack is what a guard tag may go away too early: tags that share one needn't each
// set its end anew.
const guardSlack = time.Minute
