package transport

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A session keeps the tokens of one registry and one credential.
type session struct {
	mu      sync.Mutex
	tokens  []*token
	flights []*flight
	// denied is the service's answer to a wrong login. It is given for a
	// while without asking again: services count wrong passwords.
	denied   error
	deniedAt time.Time
	// anonymous: there is no login that could be wrong, so one refusal says
	// nothing about the next repository.
	anonymous bool
}

// A flight is one request for a token, that others may wait for.
type flight struct {
	asked scopes
	done  chan struct{}
	tok   *token // after done
	err   error
	gone  bool // the caller who flew it gave up; the error is only theirs
}

const (
	maxTokens  = 512 // per session; the oldest are dropped
	deniedTime = 30 * time.Second
)

// token gives a token that serves need: one that is there, else one that
// somebody is asking for, else fetch is called for it. fresh reports whether
// it came after the call began.
//
// A flight is flown by the caller who came first, under that caller's
// context. If that one is cancelled, one of those who wait takes over.
func (s *session) token(ctx context.Context, need, ask scopes, fetch func(context.Context, scopes) (*token, error)) (tok *token, fresh bool, err error) {
	for {
		s.mu.Lock()
		if t := s.find(need, time.Now()); t != nil {
			s.mu.Unlock()
			return t, fresh, nil
		}
		if s.denied != nil && time.Since(s.deniedAt) < deniedTime {
			defer s.mu.Unlock()
			return nil, false, s.denied
		}
		i := slices.IndexFunc(s.flights, func(f *flight) bool { return f.asked.cover(need) })
		if i < 0 {
			f := &flight{asked: ask, done: make(chan struct{})}
			s.flights = append(s.flights, f)
			s.mu.Unlock()
			s.fly(ctx, f, need, fetch)
			return f.tok, true, f.err
		}
		f := s.flights[i]
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-f.done:
		}
		if !f.gone {
			return f.tok, true, f.err
		}
		fresh = true
	}
}

func (s *session) fly(ctx context.Context, f *flight, need scopes, fetch func(context.Context, scopes) (*token, error)) {
	defer close(f.done)
	f.tok, f.err = fetch(ctx, f.asked)
	if f.err != nil && ctx.Err() == nil && len(f.asked) > len(need) && refusedScope(f.err) {
		// Some services refuse the whole request for one scope in it.
		f.tok, f.err = fetch(ctx, need)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flights = slices.DeleteFunc(s.flights, func(g *flight) bool { return g == f })
	if f.err != nil {
		f.gone = ctx.Err() != nil
		var status *StatusError
		if !s.anonymous && errors.As(f.err, &status) && status.Status == http.StatusUnauthorized {
			s.denied, s.deniedAt = f.err, time.Now()
		}
		return
	}
	s.tokens = append(s.tokens, f.tok)
	if extra := len(s.tokens) - maxTokens; extra > 0 {
		s.tokens = slices.Delete(s.tokens, 0, extra)
	}
}

func refusedScope(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status/100 == 4 && status.Status != http.StatusUnauthorized && status.Status != http.StatusTooManyRequests
}

// find gives a token that grants need, else one that was asked to.
func (s *session) find(need scopes, now time.Time) *token {
	s.tokens = slices.DeleteFunc(s.tokens, func(t *token) bool { return !now.Before(t.expires) })
	var second *token
	for _, t := range slices.Backward(s.tokens) {
		if t.granted != nil && t.granted.cover(need) {
			return t
		}
		if second == nil && t.serves(need) {
			second = t
		}
	}
	return second
}

// drop forgets a token that the registry refused.
func (s *session) drop(tok *token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = slices.DeleteFunc(s.tokens, func(t *token) bool { return t == tok })
}
