package cli

import (
	"os"
	"strconv"
	"strings"
)

// peakMemory gives the most memory that the program had resident, in bytes; 0 if
// the system doesn't tell. What getrusage says would count whoever started us.
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" && f[2] == "kB" {
			n, _ := strconv.ParseInt(f[1], 10, 64) // 0 if it isn't a number
			return n << 10
		}
	}
	return 0
}
