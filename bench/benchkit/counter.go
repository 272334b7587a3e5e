package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// statsPath is where a server that counts tells what it has counted, and
// forgets it: "KIND=N ..." with "total" and "conns", the connections but for the
// one that asks, which must be new.
const statsPath = "/__stats"

// A counter counts requests by kind, and connections.
type counter struct {
	mu    sync.Mutex
	kinds map[string]int
	conns int
}

func newCounter() *counter { return &counter{kinds: map[string]int{}} }

func (c *counter) add(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[kind]++
	c.kinds["total"]++
}

// connState counts connections as a server's ConnState.
func (c *counter) connState(_ net.Conn, s http.ConnState) {
	if s == http.StateNew {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns++
	}
}

// ServeHTTP tells and forgets.
func (c *counter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds["conns"] = c.conns - 1
	fmt.Fprintln(w, counts(c.kinds))
	c.kinds, c.conns = map[string]int{}, 0
}

// counts are kept as "KIND=N KIND=N", sorted.
type counts map[string]int

func (c counts) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s=%d", k, c[k]))
	}
	return strings.Join(parts, " ")
}

// parseCounts reads what String wrote. What isn't "KIND=N" is left out.
func parseCounts(s string) counts {
	c := counts{}
	for f := range strings.FieldsSeq(s) {
		k, v, _ := strings.Cut(f, "=")
		var n int
		if _, err := fmt.Sscanf(v, "%d", &n); err == nil {
			c[k] = n
		}
	}
	return c
}
