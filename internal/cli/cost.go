package cli

import "github.com/quaymaster/quaymaster/oci"

// retries counts the requests that were sent again.
func (s *session) retries() int64 {
	var n int64
	for _, t := range s.transports {
		n += t.Stats().Sum().Retries
	}
	return n
}

// cost writes into r what the run took: requests ("source quay.io manifest": 12),
// hosts and memory.
func (s *session) cost(r *oci.Report) {
	r.Requests, r.Hosts = map[string]int64{}, map[string]oci.HostReport{}
	for i, t := range s.transports {
		side := [...]string{source, destination}[i]
		for host, h := range t.Stats().Hosts {
			sum := oci.HostReport{
				Connections: h.Connections, Retries: h.Retries, Limited: h.Limited, Waited: h.Waited.Seconds(),
				Received: h.Received, Sent: h.Sent,
			}
			for kind, n := range h.Requests {
				r.Requests[side+" "+host+" "+string(kind)] += n
				sum.Requests += n
			}
			r.Hosts[side+" "+host] = sum
		}
	}
	r.PeakMemory = peakMemory()
}
