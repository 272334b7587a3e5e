package transport

import (
	"sync"
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
}

// Sum adds up all hosts.
func (s Stats) Sum() HostStats {
	sum := HostStats{Requests: map[Kind]int64{}}
	for _, h := range s.Hosts {
		for k, n := range h.Requests {
			sum.Requests[k] += n
		}
		sum.Retries += h.Retries
		sum.Connections += h.Connections
		sum.Limited += h.Limited
		sum.Waits += h.Waits
		sum.Waited += h.Waited
	}
	return sum
}

// counters are Stats while they are being counted.
type counters struct {
	mu    sync.Mutex
	hosts map[string]*HostStats
}

func (c *counters) at(host string, f func(*HostStats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	if h == nil {
		h = &HostStats{Requests: map[Kind]int64{}}
		if c.hosts == nil {
			c.hosts = map[string]*HostStats{}
		}
		c.hosts[host] = h
	}
	f(h)
}

func (c *counters) waited(host string, d time.Duration) {
	if d > 0 {
		c.at(host, func(h *HostStats) { h.Waits++; h.Waited += d })
	}
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Hosts: make(map[string]HostStats, len(c.hosts))}
	for name, h := range c.hosts {
		copied := *h
		copied.Requests = make(map[Kind]int64, len(h.Requests))
		for k, n := range h.Requests {
			copied.Requests[k] = n
		}
		s.Hosts[name] = copied
	}
	return s
}
