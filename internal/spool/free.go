package spool

import "golang.org/x/sys/unix"

// Free gives the content's space back to the disk, as far as the file system
// can. Nobody reads it any more. What joins the contents of [Lanes] to one file
// calls it for each, so that they don't take their space twice.
func (s *Section) Free() {
	s.pile.mu.Lock()
	defer s.pile.mu.Unlock()
	if s.pile.f != nil && s.len > 0 {
		// Where that can't be done the space is free after Close.
		_ = unix.Fallocate(int(s.pile.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.at, s.len)
	}
}
