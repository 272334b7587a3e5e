package transport

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// Expect notes that requests through client to host will soon need scopes, for
// example "repository:a/b:pull". It makes no request: when a token has to be
// asked for anyway, those are asked for with it that one credential and one
// token may hold. Scopes of one call belong together, such as pushing to a
// repository and pulling from the one that it mounts from: one token gets all
// of them. Only host's scheme and host count.
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
	want := parseScopes(scopes)
	if first, _, _ := strings.Cut(scopes[0], ":"); first == "repository" {
		t.host(host).expected.note(want)
	}
}

// expected are scopes that somebody will need.
type expected struct {
	mu   sync.Mutex
	list []scopes
}

// maxExpected bounds what is kept of one host: the oldest are forgotten.
const maxExpected = 256

func (e *expected) note(want scopes) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == maxExpected {
		e.list = e.list[1:]
	}
	e.list = append(e.list, want)
}
