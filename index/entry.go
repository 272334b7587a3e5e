package index

import (
	"encoding/json"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// An entry is one of a list, at work.
type entry struct {
	oci.Descriptor
	raw      json.RawMessage
	platform oci.Platform // normalised; zero if it isn't known
	key      string       // of platform; "" if it isn't known, and then the digest counts
	attests  bool
	about    oci.Digest // of an attestation
	stays    bool       // in the result
	again    bool       // of the destination, which has it before
}

// name is the same for the same image of the same platform.
func (e entry) name() string { return e.key + " " + string(e.Digest) }

// open gives the entries of ix; nil for none.
func (ix *Index) open(opt Options) ([]entry, error) {
	if ix == nil {
		return nil, nil
	}
	if len(ix.raws) != len(ix.Entries) {
		return nil, fmt.Errorf("%w: an index that Parse didn't make", oci.ErrUsage)
	}
	out := make([]entry, len(ix.Entries))
	for i, d := range ix.Entries {
		e := entry{Descriptor: d, raw: ix.raws[i]}
		e.about, e.attests = Attests(d)
		if p, ok := PlatformOf(d, opt.Platforms); ok {
			e.platform, e.key = p, Key(p, opt.StrictOSVersion)
		}
		out[i] = e
	}
	return out, nil
}

// choose marks the images of list that keep lets pass, and what is about them. A
// list of which nothing is refused stays whole, attestations about nothing included.
func choose(list []entry, keep func(entry) bool) {
	whole := true
	var images []oci.Digest
	for i := range list {
		if e := &list[i]; !e.attests {
			if e.stays = keep(*e); e.stays {
				images = append(images, e.Digest)
			}
			whole = whole && e.stays
		}
	}
	if !whole {
		follow(list, images)
		return
	}
	for i := range list {
		list[i].stays = true
	}
}

// staying gives the entries of list that are in the result.
func staying(list []entry) []entry {
	var out []entry
	for _, e := range list {
		if e.stays {
			out = append(out, e)
		}
	}
	return out
}

// doubts gives a warning for each platform of list that stands there with two digests,
// and for each image without one. side says whose list it is.
func doubts(list []entry, side string) []string {
	var out []string
	first := map[string]oci.Digest{}
	for _, e := range list {
		if !e.stays || e.attests {
			continue
		}
		if e.key == "" {
			out = append(out, fmt.Sprintf("the %s doesn't say the platform of %s: only its digest tells it apart", side, e.Digest))
			continue
		}
		if d, ok := first[e.key]; !ok {
			first[e.key] = e.Digest
		} else if d != e.Digest {
			out = append(out, fmt.Sprintf("the %s has %s twice: %s and %s", side, Name(e.platform), d, e.Digest))
		}
	}
	return out
}
