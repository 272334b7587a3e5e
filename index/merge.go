package index

import (
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// Merge joins source and destination: the source's entries, in its order, then those
// of the destination whose platform the source lacks, in its order. destination may be
// nil: there is none. Options.Eligible chooses among the source's.
//
// All but the entries is the source's: type, annotations, subject, fields that nobody
// here knows. The result has the destination's bytes where it says the same, so that
// nothing need be written, else the source's where it says the same as that; the order
// of entries doesn't count there. Only [Pubtools] differs.
//
// An attestation stays where the image that it is about stays. About an image that
// both have the source's are taken, and the destination's if the source has none. A
// platform that stands twice in one list stays twice, with a warning; what is the same
// in the destination is added once.
//
// The error matches [oci.ErrInvalid] where the result can't be of Options.Type or has
// more entries than a manifest may, [oci.ErrTooLarge] where it has more bytes.
func Merge(source, destination *Index, opt Options) (*Result, error) {
	if source == nil {
		return nil, fmt.Errorf("%w: no source to merge", oci.ErrUsage)
	}
	from, err := source.open(opt)
	if err != nil {
		return nil, err
	}
	to, err := destination.open(opt)
	if err != nil {
		return nil, err
	}
	choose(from, func(e entry) bool { return opt.Eligible == nil || opt.Eligible(e.platform) })
	taken := staying(from)
	add(taken, to)
	m := maker{base: source, opt: opt, entries: append(taken, staying(to)...)}
	m.warnings = append(doubts(from, "source"), doubts(to, "destination")...)
	switch {
	case opt.Style != Pubtools:
		m.like = []*Index{destination, source}
	case opt.Eligible != nil || destination == nil:
		m.like = []*Index{source} // as pubtools-quay does where it selects architectures or copies
	}
	return m.make(changes(taken, to))
}

// Filter keeps the images of ix that keep lets pass, with the attestations about
// them. keep is given each image's platform as Options.Platforms and [Normalize]
// give it, nil if nobody knows it; it isn't asked about attestations. Options.Eligible
// counts for nothing. A list of which nothing goes keeps its bytes, in either style.
// Its errors are those of [Merge].
func Filter(ix *Index, keep func(oci.Descriptor) bool, opt Options) (*Result, error) {
	if ix == nil {
		return nil, fmt.Errorf("%w: no list to filter", oci.ErrUsage)
	}
	list, err := ix.open(opt)
	if err != nil {
		return nil, err
	}
	choose(list, func(e entry) bool {
		d := e.Descriptor
		if d.Platform = nil; e.key != "" {
			d.Platform = &e.platform
		}
		return keep(d)
	})
	m := maker{base: ix, opt: opt, entries: staying(list), like: []*Index{ix}, warnings: doubts(list, "list")}
	return m.make(changes(nil, list))
}

// A set is images of one list, to be looked up.
type set struct {
	keys    map[string]bool
	digests map[oci.Digest]bool
	names   map[string]bool // key and digest
}

func setOf(list []entry) set {
	s := set{map[string]bool{}, map[oci.Digest]bool{}, map[string]bool{}}
	for _, e := range list {
		if !e.attests {
			s.keys[e.key] = e.key != ""
			s.digests[e.Digest] = true
			s.names[e.name()] = true
		}
	}
	return s
}

// has reports whether an image of s is what e is: of one digest, and where both say
// a platform of one platform. (A manifest may stand for several.)
func (s set) has(e entry) bool {
	return s.names[e.name()] || s.names[entry{Descriptor: e.Descriptor}.name()] || e.key == "" && s.digests[e.Digest]
}

// add marks what of to is added to taken.
func add(taken, to []entry) {
	in, seen := setOf(taken), map[string]bool{}
	said := map[oci.Digest]bool{} // digests whose platform to says
	for _, e := range to {
		said[e.Digest] = said[e.Digest] || e.key != ""
	}
	var images []oci.Digest
	whole := true
	for i := range to {
		e := &to[i]
		if e.attests {
			continue
		}
		if in.keys[e.key] || in.has(*e) {
			whole = whole && in.has(*e)
			continue
		}
		if e.again = seen[e.name()] || e.key == "" && said[e.Digest]; e.again {
			continue
		}
		e.stays, seen[e.name()] = true, true
		images = append(images, e.Digest)
	}
	addAttestations(taken, to, images, whole)
}

// addAttestations marks the attestations of to that are added to taken: those about
// images, which stay, and about what taken has, but says nothing of. With whole
// nothing of to went, so those about nothing stay as well.
func addAttestations(taken, to []entry, images []oci.Digest, whole bool) {
	in := setOf(taken)
	// One manifest may attest to several images: it is an entry for each.
	type bond struct{ attestation, about oci.Digest }
	said, have, bonds := map[oci.Digest]bool{}, map[oci.Digest]bool{}, map[bond]bool{}
	for _, e := range taken {
		if e.attests {
			said[e.about], have[e.Digest], bonds[bond{e.Digest, e.about}] = true, true, true
		}
	}
	there, seen := map[oci.Digest]bool{}, map[bond]bool{}
	for i := range to {
		e := &to[i]
		there[e.Digest] = true
		if e.attests {
			b := bond{e.Digest, e.about}
			e.again, seen[b] = seen[b], true
		}
	}
	for _, e := range to {
		if e.attests && !e.again && !said[e.about] && (in.digests[e.about] || have[e.about] || whole && !there[e.about]) {
			images = append(images, e.about)
		}
	}
	follow(to, images)
	for i := range to {
		if e := &to[i]; e.attests && bonds[bond{e.Digest, e.about}] {
			e.stays = false
		}
	}
}

// changes says what becomes of the images of to where taken comes to it.
func changes(taken, to []entry) []Change {
	before, now := setOf(to), setOf(taken)
	gone := map[string][]oci.Digest{} // what isn't in the result, by platform
	for _, e := range to {
		if !e.attests && !e.stays && !e.again && !now.has(e) {
			gone[e.key] = append(gone[e.key], e.Digest)
		}
	}
	replaced := map[string]int{} // how many of gone
	var out []Change
	for _, e := range taken {
		if e.attests {
			continue
		}
		c := Change{Action: Added, Platform: e.platform, New: e.Digest}
		if before.has(e) {
			c.Action, c.Old = Same, e.Digest
		} else if old := gone[e.key]; e.key != "" && replaced[e.key] < len(old) {
			c.Action, c.Old = Replaced, old[replaced[e.key]]
			replaced[e.key]++
		}
		out = append(out, c)
	}
	for _, e := range to {
		if !e.attests && e.stays {
			out = append(out, Change{Kept, e.platform, e.Digest, e.Digest})
		}
	}
	for _, e := range to {
		switch {
		case e.attests || e.stays || e.again || now.has(e):
		case replaced[e.key] > 0:
			replaced[e.key]--
		default:
			out = append(out, Change{Dropped, e.platform, e.Digest, ""})
		}
	}
	return out
}
