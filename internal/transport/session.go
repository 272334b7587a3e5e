package transport

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A session keeps the tokens of one registry and one credential.
type session struct {
	mu      sync.Mutex
	tokens  tokens
	flights []*flight
	batches batches
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
	need  scopes // of who flies it
	asked scopes // need and what else goes with it
	done  chan struct{}
	tok   *token // after done
	err   error
	again bool // err is of no concern to those who wait
}

const deniedTime = 30 * time.Second

// A want is what a request wants of a session.
type want struct {
	need   scopes
	also   scopes // what its context names besides
	origin string // that it mounts from, if any
	// ahead gives what is expected to be read or written.
	ahead func(ctx context.Context, push bool) []*expectation
	// taken gets what of that was asked for, or is there.
	taken func([]*expectation)
	fetch func(ctx context.Context, need, all scopes) (*token, error)
}

// token gives a token that serves w: one that is there, else one that somebody
// is asking for, else one that is asked for now, together with what is expected
// to be needed. fresh reports whether it came after the call began.
//
// A flight is flown by the caller who came first, under that caller's
// context. If that one is cancelled, one of those who wait takes over.
func (s *session) token(ctx context.Context, w want) (tok *token, fresh bool, err error) {
	var ahead []*expectation
	looked := false
	for {
		s.mu.Lock()
		if w.origin != "" {
			s.batches.mounted(w.origin)
		}
		if t := s.find(w.need, time.Now()); t != nil {
			s.mu.Unlock()
			return t, fresh, nil
		}
		if s.denied != nil && time.Since(s.deniedAt) < deniedTime {
			defer s.mu.Unlock()
			return nil, false, s.denied
		}
		if i := slices.IndexFunc(s.flights, func(f *flight) bool { return f.asked.cover(w.need) }); i >= 0 {
			f := s.flights[i]
			s.mu.Unlock()
			select {
			case <-ctx.Done():
				return nil, false, context.Cause(ctx)
			case <-f.done:
			}
			fresh = true
			if !f.again && (f.err != nil || s.stillServes(f.tok, w.need)) {
				return f.tok, true, f.err
			}
			continue
		}
		if !looked && w.ahead != nil && s.batches.open(w.need) {
			looked = true // without the lock: credential helpers are asked
			s.mu.Unlock()
			ahead = w.ahead(ctx, w.need.write())
			continue
		}
		f := &flight{need: w.need, done: make(chan struct{})}
		var gone []*expectation
		f.asked, gone = s.compose(w, ahead)
		s.flights = append(s.flights, f)
		s.mu.Unlock()
		if w.taken != nil {
			w.taken(gone)
		}
		s.fly(ctx, f, w.fetch)
		return f.tok, true, f.err
	}
}

func (s *session) stillServes(t *token, need scopes) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.serves(need)
}

func (s *session) find(need scopes, now time.Time) *token {
	return s.tokens.find(need, now, s.batches.ended)
}

func (s *session) fly(ctx context.Context, f *flight, fetch func(ctx context.Context, need, all scopes) (*token, error)) {
	defer close(f.done)
	f.tok, f.err = fetch(ctx, f.need, f.asked)
	refused := f.err != nil && ctx.Err() == nil && len(f.asked) > len(f.need) && s.refusedScope(f.err)
	if refused {
		// Some services refuse the whole request for one scope in it.
		f.tok, f.err = fetch(ctx, f.need, f.need)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flights = slices.DeleteFunc(s.flights, func(g *flight) bool { return g == f })
	if refused {
		s.batches.refused(f)
		f.again = f.err != nil // it is about need alone
	}
	if f.err != nil {
		f.again = f.again || ctx.Err() != nil
		var status *StatusError
		if !s.anonymous && errors.As(f.err, &status) && status.Status == http.StatusUnauthorized {
			s.denied, s.deniedAt = f.err, time.Now()
		}
		return
	}
	s.batches.landed(f)
	s.tokens.add(f.tok)
}

// refusedScope reports whether a service's refusal may be about one scope of
// several. Without a login, 401 is: there is no password that could be wrong.
func (s *session) refusedScope(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status/100 == 4 && status.Status != http.StatusTooManyRequests &&
		(s.anonymous || status.Status != http.StatusUnauthorized)
}

// refused takes note that the registry refused need with t: its time is over,
// or it was never good for that.
func (s *session) refused(t *token, need scopes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.gone || s.batches.narrow(t, need) {
		return
	}
	s.tokens.remove(t)
	s.batches.ended(t)
}

// narrow is refused, where only a part of t may be at fault.
func (s *session) narrow(t *token, need scopes) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches.narrow(t, need)
}

// worked takes note that the registry took t for need.
func (s *session) worked(t *token, need scopes) {
	if t.granted != nil {
		return // it says so itself
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.batches.worked(t, need) {
		return
	}
	for _, other := range s.tokens.order { // what they were asked for, they don't grant
		if other.granted == nil && !other.lone {
			maps.DeleteFunc(other.asked, func(key string, _ []string) bool { return !other.served[key] })
		}
	}
}
