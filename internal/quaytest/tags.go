package quaytest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A tag is one entry of a repository's tag history.
type tag struct {
	ID         int64
	Name       string
	Digest     oci.Digest
	Start, End time.Time // End zero: none. In the future: will expire
	Hidden     bool      // "$temp-…": keeps a manifest that was pushed by digest
	Reversion  bool      // made by restore
	Immutable  bool
}

func (t *tag) alive(now time.Time) bool { return t.End.IsZero() || t.End.After(now) }

var tagRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// now is the time as Quay keeps it.
func (s *Server) now() time.Time { return s.opt.Now().UTC().Truncate(time.Millisecond) }

// aliveTag gives the living visible tag called name, nil if there is none.
func (s *Server) aliveTag(r *repository, name string) *tag {
	now := s.now()
	for _, t := range slices.Backward(r.History) {
		if t.Name == name && !t.Hidden && t.alive(now) {
			return t
		}
	}
	return nil
}

// wasTag reports whether name is in the history that is still kept.
func (s *Server) wasTag(r *repository, name string) bool {
	s.collect(r)
	return slices.ContainsFunc(r.History, func(t *tag) bool { return t.Name == name && !t.Hidden })
}

// collect forgets the entries that the time machine doesn't keep any longer.
func (s *Server) collect(r *repository) {
	now := s.now()
	r.History = slices.DeleteFunc(r.History, func(t *tag) bool {
		kept := s.opt.TimeMachine
		if t.Hidden {
			kept = 0
		}
		return !t.alive(now) && !t.End.Add(kept).After(now)
	})
}

// retag makes name point to d from now on. The entry that was alive ends.
func (s *Server) retag(r *repository, name string, d oci.Digest, end time.Time) *tag {
	now := s.now()
	if old := s.aliveTag(r, name); old != nil {
		old.End = now
	}
	return s.addTag(r, &tag{Name: name, Digest: d, Start: now, End: end})
}

func (s *Server) addTag(r *repository, t *tag) *tag {
	s.state.NextID++
	t.ID = s.state.NextID
	r.History = append(r.History, t)
	return t
}

// hold keeps a manifest that was pushed by digest: for an hour, or for ever if
// it has a subject.
func (s *Server) hold(r *repository, d oci.Digest, forever bool) {
	t := s.addTag(r, &tag{Digest: d, Start: s.now(), Hidden: true})
	t.Name = fmt.Sprintf("$temp-%d", t.ID)
	if !forever {
		t.End = t.Start.Add(time.Hour)
	}
}

// endTag lets t end now, and the cosign companions of its digest if nothing
// else that lives has that digest.
func (s *Server) endTag(r *repository, t *tag) {
	now := s.now()
	t.End = now
	r.listedAt = time.Time{}
	if slices.ContainsFunc(r.History, func(o *tag) bool { return o.Digest == t.Digest && !o.Hidden && o.alive(now) }) {
		return
	}
	stem := "sha256-" + t.Digest.Encoded()
	for _, o := range r.History {
		if o.alive(now) && (o.Name == stem+".sig" || o.Name == stem+".att" || o.Name == stem+".sbom") {
			o.End = now
		}
	}
}

// visibleTags gives the history in the order of the API: newest first, then by
// name.
func (s *Server) visibleTags(r *repository, onlyAlive bool) []*tag {
	s.collect(r)
	now := s.now()
	var tags []*tag
	for _, t := range r.History {
		if !t.Hidden && (!onlyAlive || t.alive(now)) {
			tags = append(tags, t)
		}
	}
	slices.SortFunc(tags, func(a, b *tag) int {
		return cmp.Or(b.Start.Compare(a.Start), strings.Compare(a.Name, b.Name), cmp.Compare(b.ID, a.ID))
	})
	return tags
}

// reachable reports whether d is what a living tag points to, or a child of
// such a list. Hidden tags count if hidden is set.
func (s *Server) reachable(r *repository, d oci.Digest, hidden bool) bool {
	now := s.now()
	return s.named(r, d, func(t *tag) bool { return t.alive(now) && (hidden || !t.Hidden) })
}

// known reports whether d, or a list that it is a child of, is in the history
// that is still kept.
func (s *Server) known(r *repository, d oci.Digest) bool {
	s.collect(r)
	return s.named(r, d, func(*tag) bool { return true })
}

// named reports whether an entry that counts leads to d.
func (s *Server) named(r *repository, d oci.Digest, counts func(*tag) bool) bool {
	var lists []oci.Digest
	for _, t := range r.History {
		if !counts(t) {
			continue
		}
		if t.Digest == d {
			return true
		}
		lists = append(lists, t.Digest)
	}
	seen := map[oci.Digest]bool{}
	for len(lists) > 0 {
		m := s.manifest(r, lists[0])
		lists = lists[1:]
		if m == nil {
			continue
		}
		for _, c := range m.Children {
			if c.Digest == d {
				return true
			}
			if !seen[c.Digest] {
				seen[c.Digest] = true
				lists = append(lists, c.Digest)
			}
		}
	}
	return false
}
