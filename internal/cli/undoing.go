package cli

import "sync"

// An undoing counts the verbs and the rollbacks that are at work, so that a program
// that was interrupted waits for them: rollbacks have a limit of their own, and verbs
// that have changed something end with one.
type undoing struct {
	mu   sync.Mutex
	busy int
	idle chan struct{} // closed once busy is 0 again
}

// begin is what [publish.Publisher] calls Undoing.
func (u *undoing) begin() (done func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy++; u.busy == 1 {
		u.idle = make(chan struct{})
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.busy--; u.busy == 0 {
			close(u.idle)
		}
	}
}

// wait waits until none is at work, and reports whether it had to.
func (u *undoing) wait() bool {
	u.mu.Lock()
	idle := u.idle
	busy := u.busy > 0
	u.mu.Unlock()
	if busy {
		<-idle
	}
	return busy
}
