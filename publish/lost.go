package publish

import (
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// A removal finds out what becomes of a repository when tags of it are taken away.
// It makes no request: what only the registry knows it is told ([removal.refer]).
//
// A manifest is held by the surviving tags that mean it and by the surviving
// indexes that hold it. What nothing holds any more is lost, with its children; the
// companions of what is lost go too, and theirs, until there are no more.
type removal struct {
	s     *scan
	tags  []string // to be taken away, as they were asked for
	gone  map[string]bool
	holds map[oci.Digest]int
	dead  map[oci.Digest]bool
	// counted are the indexes whose entries are in holds.
	counted map[oci.Digest]bool
	// heirs are the referrers of what is lost.
	heirs map[oci.Digest][]oci.Digest
	// news are the dead whose companions weren't looked for yet.
	news []oci.Digest
	// along are the companions' tags.
	along []companionTag
}

// A companionTag is a tag that goes because its subject does.
type companionTag struct {
	tag  string
	kind companion.Kind
}

// newRemoval takes tags of s away. Those that aren't there change nothing.
func newRemoval(s *scan, tags []string) *removal {
	m := &removal{
		s: s, tags: tags, gone: map[string]bool{},
		holds: make(map[oci.Digest]int, len(s.tags)), dead: map[oci.Digest]bool{},
		counted: map[oci.Digest]bool{}, heirs: map[oci.Digest][]oci.Digest{},
	}
	for _, d := range s.tags {
		m.holds[d]++
	}
	for d := range s.children {
		m.count(d)
	}
	for _, tag := range tags {
		m.drop(tag)
	}
	return m
}

// count enters what the index d holds, and the indexes in it.
func (m *removal) count(d oci.Digest) {
	for todo := []oci.Digest{d}; len(todo) > 0; {
		d, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if m.counted[d] {
			continue
		}
		m.counted[d] = true
		for _, c := range m.s.children[d] {
			m.holds[c]++
		}
		todo = append(todo, m.s.children[d]...)
	}
}

// drop takes tag away, and what only it held.
func (m *removal) drop(tag string) {
	d, there := m.s.tags[tag]
	if !there || m.gone[tag] {
		return
	}
	m.gone[tag] = true
	m.release(d)
}

// release takes one hold of d away. Children are released in turn, without
// recursion: how deep indexes nest is up to who pushed them.
func (m *removal) release(d oci.Digest) {
	for todo := []oci.Digest{d}; len(todo) > 0; {
		d, todo = todo[len(todo)-1], todo[:len(todo)-1]
		// What died once has released its children, though a referrer that was read
		// since may hold it too.
		if m.holds[d]--; m.holds[d] > 0 || d == "" || m.dead[d] {
			continue
		}
		m.dead[d] = true
		m.news = append(m.news, d)
		todo = append(todo, m.s.children[d]...)
	}
}

// follow takes away the tags of the companions of what is lost, as far as they can
// be told from the tags, and gives the digests that died since the last call: whose
// referrers only the registry knows. None means that it is over.
func (m *removal) follow() []oci.Digest {
	var died []oci.Digest
	for len(m.news) > 0 {
		d := m.news[0]
		m.news = m.news[1:]
		died = append(died, d)
		for _, tag := range companionTags(d) {
			means, there := m.s.tags[tag.tag]
			if _, list := m.s.children[means]; tag.kind == companion.Referrer && !list {
				continue // some name images so, to keep them: what that is about nobody knows
			}
			if there && !m.gone[tag.tag] {
				m.along = append(m.along, tag)
				m.drop(tag.tag)
			}
		}
	}
	return died
}

// refer says that referrer is about subject, which is lost. It is lost too, with
// what the scan says that it holds, unless something else holds it.
func (m *removal) refer(subject, referrer oci.Digest) {
	m.heirs[subject] = append(m.heirs[subject], referrer)
	if m.holds[referrer] > 0 || m.dead[referrer] {
		return
	}
	m.count(referrer)
	m.holds[referrer]++ // the subject's hold, which is over
	m.release(referrer)
}

// lost gives the manifests that no tag reaches any more, in the order in which the
// tags lead to them, referrers behind their subjects. The manifests of companions'
// tags aren't among them: their tags say what is lost there.
func (m *removal) lost() []oci.Digest {
	var lost []oci.Digest
	seen := map[oci.Digest]bool{}
	walk := func(root oci.Digest) {
		for todo := []oci.Digest{root}; len(todo) > 0; {
			d := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if seen[d] || !m.dead[d] { // what lives holds its children
				continue
			}
			seen[d] = true
			lost = append(lost, d)
			for _, c := range slices.Backward(m.s.children[d]) {
				todo = append(todo, c)
			}
		}
	}
	for _, tag := range m.tags {
		walk(m.s.tags[tag])
	}
	for i := 0; i < len(lost); i++ { // it grows
		for _, d := range m.heirs[lost[i]] {
			walk(d)
		}
	}
	return lost
}

// companionTags gives the tags that may hold what is about d: cosign's, and the
// list of its referrers.
func companionTags(d oci.Digest) []companionTag {
	var tags []companionTag
	for _, tag := range companion.Tags(d) {
		_, kind, _ := companion.ParseTag(tag)
		tags = append(tags, companionTag{tag, kind})
	}
	if tag := referrersTag(d); tag != "" {
		tags = append(tags, companionTag{tag, companion.Referrer})
	}
	return tags
}

// referrersTag gives the tag that lists the referrers of d in a registry that can't:
// "sha256-<hex>", cut as a tag must be. "" if d is no digest.
//
// Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema
func referrersTag(d oci.Digest) string {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	if !ok {
		return ""
	}
	return algorithm[:min(len(algorithm), 32)] + "-" + hex[:min(len(hex), 64)]
}

// A keeping finds out what survives because of some tags: themselves, and the
// companions of all that they reach, and theirs.
type keeping struct {
	s    *scan
	tags map[string]bool
	seen map[oci.Digest]bool
	todo []oci.Digest
}

func newKeeping(s *scan) *keeping {
	return &keeping{s: s, tags: map[string]bool{}, seen: map[oci.Digest]bool{}}
}

// keep keeps tag, if there is one.
func (k *keeping) keep(tag string) {
	if d, there := k.s.tags[tag]; there && !k.tags[tag] {
		k.tags[tag] = true
		k.todo = append(k.todo, d)
	}
}

// refer keeps what is about referrer, a referrer of what is kept.
func (k *keeping) refer(_, referrer oci.Digest) { k.todo = append(k.todo, referrer) }

// follow keeps what can be told from the tags, and gives the digests that were
// reached since the last call: whose referrers only the registry knows.
func (k *keeping) follow() []oci.Digest {
	var reached []oci.Digest
	for len(k.todo) > 0 {
		d := k.todo[len(k.todo)-1]
		k.todo = k.todo[:len(k.todo)-1]
		if k.seen[d] || d == "" {
			continue
		}
		k.seen[d] = true
		reached = append(reached, d)
		for _, t := range companionTags(d) {
			k.keep(t.tag)
		}
		k.todo = append(k.todo, k.s.children[d]...)
	}
	return reached
}

// isReferrersTag reports whether [referrersTag] may have made tag.
func isReferrersTag(tag string) bool {
	algorithm, hex, ok := strings.Cut(tag, "-")
	return ok && referrersTag(oci.Digest(algorithm+":"+hex)) == tag && oci.ValidDigest(oci.Digest(algorithm+":"+hex)) == nil
}
