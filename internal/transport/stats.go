package transport

import (
	"sync/atomic"
	"time"
)

// Stats count what a [Transport] did since it was made.
type Stats struct {
	Hosts map[string]HostStats // by host[:port]
}

// HostStats count what was sent to one host.
type HostStats struct {
	Requests    map[Kind]int64 // sent, further attempts and redirects included
	Retries     int64          // requests that were sent again after a fault
	Connections int64          // opened
	Limited     int64          // answers 429
	Waits       int64          // requests that were held back by a limit or a pause
	Waited      time.Duration  // for how long, summed over all requests
	Received    int64          // bytes of blobs, also of reads that broke off
	Sent        int64          // likewise
}

func (s *HostStats) add(h HostStats) {
	for k, n := range h.Requests {
		s.Requests[k] += n
	}
	s.Retries += h.Retries
	s.Connections += h.Connections
	s.Limited += h.Limited
	s.Waits += h.Waits
	s.Waited += h.Waited
	s.Received += h.Received
	s.Sent += h.Sent
}

// Sum adds up all hosts.
func (s Stats) Sum() HostStats {
	sum := HostStats{Requests: map[Kind]int64{}}
	for _, h := range s.Hosts {
		sum.add(h)
	}
	return sum
}

var kinds = [...]Kind{Token, API, Manifest, Blob, Upload, Other}

// counters are a host's Stats while they are being counted.
type counters struct {
	requests                              [len(kinds)]atomic.Int64
	retries, connections, limited         atomic.Int64
	waits, waitedFor, received, sentBytes atomic.Int64
}

func (c *counters) request(k Kind) {
	for i := range kinds {
		if kinds[i] == k {
			c.requests[i].Add(1)
		}
	}
}

func (c *counters) waited(d time.Duration) {
	if d > 0 {
		c.waits.Add(1)
		c.waitedFor.Add(int64(d))
	}
}

func (c *counters) snapshot() HostStats {
	s := HostStats{
		Requests: map[Kind]int64{}, Retries: c.retries.Load(), Connections: c.connections.Load(), Limited: c.limited.Load(),
		Waits: c.waits.Load(), Waited: time.Duration(c.waitedFor.Load()), Received: c.received.Load(), Sent: c.sentBytes.Load(),
	}
	for i, k := range kinds {
		if n := c.requests[i].Load(); n > 0 {
			s.Requests[k] = n
		}
	}
	return s
}
