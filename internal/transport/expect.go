package transport

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Expect notes that requests through client to host will soon need scopes, for
// example "repository:a/b:pull". It makes no request: when a token has to be
// asked for anyway, those are asked for with it that one credential and one
// token may hold. Scopes of one call belong together, such as pushing to a
// repository and pulling from the one that it mounts from: one token gets all
// of them. Only host's scheme and host count. Of each host the latest 256
// calls are kept.
//
// Say push only of what is about to be written: Quay makes a repository when
// it is asked for a token to push there.
//
// It does nothing if client isn't a [Transport]'s.
func Expect(client *http.Client, host *url.URL, scopes ...string) {
	if client == nil || host == nil || len(scopes) == 0 {
		return
	}
	t, ok := client.Transport.(*Transport)
	if !ok {
		return
	}
	x := &expectation{want: parseScopes(scopes)}
	for key, actions := range x.want {
		name, ok := strings.CutPrefix(key, repositoryScope)
		if !ok {
			return // the catalog and the like: nothing to be asked for together
		}
		if writes(actions) {
			x.push = true
		}
		if x.repo == "" || writes(actions) {
			x.repo = name
		}
	}
	if x.repo != "" {
		t.host(host).expected.note(x)
	}
}

// An expectation is what one call of [Expect] named.
type expectation struct {
	want scopes
	repo string // whose credential counts
	push bool   // some of it is to be written
}

// expected are the expectations of one host, oldest first.
type expected struct {
	mu   sync.Mutex
	list []*expectation
}

// maxExpected bounds what is kept of one host: the oldest are forgotten.
const maxExpected = 256

func (e *expected) note(x *expectation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == maxExpected {
		e.list = append(e.list[:0], e.list[1:]...)
	}
	e.list = append(e.list, x)
}

// of gives what is expected to be read or, with push, to be written, oldest
// first, and of that what cred is the credential for.
func (e *expected) of(ctx context.Context, push bool, cred Credential, lookup func(ctx context.Context, repo string) (Credential, error)) []*expectation {
	e.mu.Lock()
	list := slices.Clone(e.list)
	e.mu.Unlock()
	var mine []*expectation
	for _, x := range list {
		if x.push != push {
			continue
		}
		// An error is for the request that needs this repository.
		if c, err := lookup(ctx, x.repo); err == nil && c == cred {
			mine = append(mine, x)
		}
	}
	return mine
}

// forget drops what was asked for, or is there already.
func (e *expected) forget(gone []*expectation) {
	if len(gone) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = slices.DeleteFunc(e.list, func(x *expectation) bool { return slices.Contains(gone, x) })
}
