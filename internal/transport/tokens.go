package transport

import (
	"slices"
	"time"
)

// tokens are those of a session, found by what they are for: a run over many
// thousand repositories has hundreds, and each request looks for one.
type tokens struct {
	byKey map[string][]*token // by each key they were asked for or grant, oldest first
	order []*token            // oldest first; those that went may still be in it
	live  int
}

// maxTokens bounds the tokens of a session: the oldest are dropped.
const maxTokens = 512

func (s *tokens) add(t *token) {
	if s.byKey == nil {
		s.byKey = map[string][]*token{}
	}
	for key := range t.asked.with(t.granted) {
		t.keys = append(t.keys, key)
		s.byKey[key] = append(s.byKey[key], t)
	}
	s.order = append(s.order, t)
	for s.live++; s.live > maxTokens; {
		s.remove(s.order[0])
	}
	for len(s.order) > 0 && s.order[0].gone {
		s.order = s.order[1:]
	}
	if len(s.order) > 2*maxTokens {
		s.order = slices.DeleteFunc(slices.Clone(s.order), func(t *token) bool { return t.gone })
	}
}

func (s *tokens) remove(t *token) {
	if t.gone {
		return
	}
	t.gone = true
	s.live--
	for _, key := range t.keys {
		list := slices.DeleteFunc(s.byKey[key], func(o *token) bool { return o == t })
		if len(list) == 0 {
			delete(s.byKey, key)
		} else {
			s.byKey[key] = list
		}
	}
	for len(s.order) > 0 && s.order[0].gone {
		s.order = s.order[1:]
	}
}

// find gives a token that grants need, else one that was asked to; the latest.
// Those that it meets and whose time is over are given to ended, and go.
func (s *tokens) find(need scopes, now time.Time, ended func(*token)) *token {
	var second *token
	var over []*token
	defer func() {
		for _, t := range over {
			s.remove(t)
			ended(t)
		}
	}()
	for _, t := range slices.Backward(s.candidates(need)) {
		switch {
		case t.gone:
		case !now.Before(t.expires):
			over = append(over, t)
		case t.granted != nil && t.granted.cover(need):
			return t
		case second == nil && t.serves(need):
			second = t
		}
	}
	return second
}

// candidates gives the shortest list that a token for need must be in.
func (s *tokens) candidates(need scopes) []*token {
	list := s.order
	for key := range need {
		if l := s.byKey[key]; len(l) <= len(list) {
			list = l
		}
	}
	return list
}
