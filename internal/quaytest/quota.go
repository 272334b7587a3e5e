package quaytest

import "github.com/quaymaster/quaymaster/oci"

// size is the bytes that r's living tags name, each blob once.
func (s *Server) size(r *repository) (n int64) {
	seen := map[oci.Digest]bool{}
	var add func(oci.Digest)
	add = func(d oci.Digest) {
		m := s.manifest(r, d)
		if m == nil || seen[d] {
			return
		}
		seen[d] = true
		for _, c := range m.Children {
			add(c.Digest)
		}
		for _, l := range m.Layers {
			if !seen[l.Digest] {
				seen[l.Digest] = true
				n += l.Size
			}
		}
	}
	for _, t := range s.visibleTags(r, true) {
		add(t.Digest)
	}
	return n
}

func (s *Server) quotaReport(r *repository) map[string]any {
	report := map[string]any{"quota_bytes": s.size(r), "configured_quota": nil}
	if n := s.state.Namespaces[r.Namespace]; n != nil && n.Quota > 0 {
		report["configured_quota"] = n.Quota
	}
	return report
}

// overQuota reports whether ns is full.
func (s *Server) overQuota(ns string) bool {
	n := s.state.Namespaces[ns]
	if !s.opt.QuotaManagement || n == nil || n.Quota == 0 {
		return false
	}
	var sum int64
	for _, r := range s.byID {
		if r.Namespace == ns {
			sum += s.size(r)
		}
	}
	return sum > n.Quota
}
