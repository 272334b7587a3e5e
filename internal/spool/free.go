package spool

// Free gives the content's space back to the disk, as far as the file system
// can. Nobody reads it any more. What joins the contents of [Lanes] to one file
// calls it for each, so that they don't take their space twice.
func (s *Section) Free() {
	s.pile.mu.Lock()
	defer s.pile.mu.Unlock()
	if s.pile.f != nil && s.len > 0 {
		punch(s.pile.f, s.at, s.len)
	}
}
