//go:build unix && !linux

package cli

import (
	"runtime"
	"syscall"
)

// peakMemory gives the most memory that the program had resident, in bytes; 0 if
// the system doesn't tell.
func peakMemory() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss
	}
	return u.Maxrss << 10 // KiB elsewhere
}
