package transport

import (
	"maps"
	"slices"
	"time"
)

// batches decide what is asked for in one request for a token, and learn what
// the service gives. Services differ: most grant several repositories, some the
// first one only, some refuse the request. Some tokens say what they grant (JWT),
// of others only the registry's answers tell.
//
// A repository that was not granted among others is asked for by itself. If
// that succeeds, it is the service that gives less than it is asked for, and
// from then on every repository is asked for by itself; else it is the
// repository.
type batches struct {
	single  bool            // each repository by itself
	alone   map[part]reason // what was not granted among others
	refusal int             // requests for several that were refused
	origins []string        // keys that were mounted from, latest last
	past    []scopes        // of tokens of several repositories that have ended
}

// A part is what is granted, or isn't, at once: to read in a repository, or to
// write. One that isn't there yet may be granted to write alone.
type part struct {
	key   string
	write bool
}

func partOf(key string, actions []string) part { return part{key, writes(actions)} }

// A reason says why a part is asked for by itself.
type reason int

const (
	lacking reason = iota // the token for several didn't grant it
	blamed                // the request for several was refused; it may be another's fault
)

const (
	// maxScopes is how many scopes one token request asks for at most, and
	// maxScopeBytes how long they are together: a URL has to fit into what
	// servers take, about 8 KiB.
	maxScopes     = 20
	maxScopeBytes = 4 << 10
	// maxOrigins is how many repositories that were mounted from go with each
	// token to write: a mount needs both in one token.
	maxOrigins  = 4
	maxAlone    = 4096
	maxRefusals = 3
	maxPast     = 16
)

// open reports whether others may be asked for together with need.
func (b *batches) open(need scopes) bool {
	if b.single {
		return false
	}
	for key, actions := range need {
		if _, ok := b.alone[partOf(key, actions)]; ok {
			return false
		}
	}
	return true
}

// mounted notes that origin is mounted from.
func (b *batches) mounted(origin string) {
	key := repositoryScope + origin
	if n := len(b.origins); n > 0 && b.origins[n-1] == key {
		return
	}
	b.origins = append(slices.DeleteFunc(b.origins, func(k string) bool { return k == key }), key)
	if len(b.origins) > maxOrigins {
		b.origins = b.origins[1:]
	}
}

// ended notes that a token is no more, so that what it was for is asked for in
// one request again.
func (b *batches) ended(t *token) {
	if len(t.asked) > 1 && !b.single {
		b.past = append(b.past, t.asked)
		if len(b.past) > maxPast {
			b.past = b.past[1:]
		}
	}
}

// refused notes that the service refused f's request, which was for several.
func (b *batches) refused(f *flight) {
	if b.refusal++; b.refusal >= maxRefusals {
		b.single = true
	}
	for key, actions := range f.asked {
		if _, ok := f.need[key]; !ok {
			b.askAlone(partOf(key, actions), blamed)
		}
	}
}

func (b *batches) askAlone(p part, why reason) {
	if b.alone == nil || len(b.alone) >= maxAlone {
		b.alone = map[part]reason{}
	}
	b.alone[p] = why
}

// written notes that what need writes to is there: whether it could be read
// before says nothing any more.
func (b *batches) written(need scopes) {
	for key, actions := range need {
		if writes(actions) {
			delete(b.alone, part{key: key})
		}
	}
}

// landed looks at what came of a request.
func (b *batches) landed(f *flight) {
	t := f.tok
	t.asked = scopes{}.with(t.asked) // the flight's stays as it was
	t.wide = len(t.asked) > len(f.need)
	if b.open(f.need) || b.single {
		if t.granted == nil {
			return
		}
		for key, actions := range t.asked {
			if _, ok := f.need[key]; !ok && !t.granted.cover(scopes{key: actions}) {
				delete(t.asked, key)
				b.askAlone(partOf(key, actions), lacking)
			}
		}
		if t.granted.cover(f.need) {
			b.written(f.need)
		}
		return
	}
	for key, actions := range f.need {
		t.lone = t.lone || b.lacked(partOf(key, actions))
	}
	if t.lone && t.granted != nil && t.granted.cover(f.need) {
		b.single = true
	}
}

func (b *batches) lacked(p part) bool {
	why, ok := b.alone[p]
	return ok && why == lacking
}

// worked notes that an opaque token is good for need. It reports whether that
// tells that the service grants one repository only.
func (b *batches) worked(t *token, need scopes) (learnt bool) {
	learnt = t.lone && !b.single
	b.single = b.single || t.lone
	if t.served == nil {
		t.served = map[string]bool{}
	}
	for key := range need {
		t.served[key] = true
	}
	b.written(need)
	return learnt
}

// narrow takes from t what the registry refused, if t doesn't say what it
// grants and was asked for more. It reports false if t has ended: it was good
// for that before, or there is nothing more in it.
func (b *batches) narrow(t *token, need scopes) bool {
	if t.granted != nil {
		return false
	}
	done := false
	for key, actions := range need {
		if _, ok := t.asked[key]; ok && !t.served[key] && len(t.asked) > len(need) {
			delete(t.asked, key)
			b.askAlone(partOf(key, actions), lacking)
			done = true
		}
	}
	return done
}

// compose gives what one request asks for, and those of ahead that need no
// further thought: they are in it, or there is a token for them, or on its way.
func (s *session) compose(w want, ahead []*expectation) (ask scopes, settled []*expectation) {
	b, push := &s.batches, w.need.write()
	ask = scopes{}.with(w.need)
	add := func(more scopes) {
		if sum := ask.with(more); len(sum) <= maxScopes && sum.size() <= maxScopeBytes {
			ask = sum
		}
	}
	if b.single {
		if push && len(ask) == 1 && len(b.origins) > 0 && b.refusal == 0 {
			add(scopes{b.origins[len(b.origins)-1]: {"pull"}}) // services that grant one repository may add that
		}
		return ask, nil
	}
	if !b.open(w.need) {
		return ask, nil
	}
	room := maxScopes
	if push {
		room -= maxOrigins - len(b.origins) // of those that are to come
		for _, key := range slices.Backward(b.origins) {
			add(scopes{key: {"pull"}})
		}
	}
	for _, more := range []scopes{s.companions(w.need), w.also} {
		for _, key := range slices.Sorted(maps.Keys(more)) {
			if one := (scopes{key: more[key]}); b.open(one) {
				add(one)
			}
		}
	}
	for _, x := range ahead {
		if len(ask) >= room {
			break
		}
		there := s.find(x.want, time.Now()) != nil ||
			slices.ContainsFunc(s.flights, func(f *flight) bool { return f.asked.cover(x.want) })
		if !there && b.open(x.want) {
			add(x.want)
		}
		if there || !b.open(x.want) || ask.cover(x.want) {
			settled = append(settled, x)
		}
	}
	return ask, settled
}

// companions are what was asked for together with need, or with a part of it,
// before: by a token that has ended, or one that lacks the repository that is
// mounted from now. Who needed the one token needs the next one, too.
func (s *session) companions(need scopes) scopes {
	b := &s.batches
	for i, p := range slices.Backward(b.past) {
		if p.cover(need) {
			b.past = slices.Delete(b.past, i, i+1)
			return p
		}
	}
	if len(need) < 2 {
		return nil
	}
	for key, actions := range need {
		if t := s.find(scopes{key: actions}, time.Now()); t != nil && writes(actions) {
			return t.asked
		}
	}
	return nil
}
