package quaytest

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
)

// state is all that a Quay knows besides content.
type state struct {
	NextID       int64
	Namespaces   map[string]*namespace
	Tokens       map[string]*oauthToken // by the token itself
	Robots       map[string]*robot      // by "ns+bot"
	Repositories map[string]*repository // by "ns/repo"
}

func newState() state {
	return state{
		Namespaces:   map[string]*namespace{},
		Tokens:       map[string]*oauthToken{},
		Robots:       map[string]*robot{},
		Repositories: map[string]*repository{},
	}
}

// Save writes users, tokens, repositories and tag histories, secrets too, so
// that a server over the same store can [Server.Load] them.
func (s *Server) Save(w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.NewEncoder(w).Encode(s.state)
}

// Load replaces what the server knows by what [Server.Save] wrote.
func (s *Server) Load(r io.Reader) error {
	st := newState()
	if err := json.NewDecoder(r).Decode(&st); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.byID = st, nil
	for _, r := range st.Repositories {
		s.byID = append(s.byID, r)
	}
	slices.SortFunc(s.byID, func(a, b *repository) int { return cmp.Compare(a.ID, b.ID) })
	s.manifests.Clear()
	return nil
}
