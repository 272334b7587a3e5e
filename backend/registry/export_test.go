package registry

import "time"

// AskAbove is the program's value; tests have smaller blobs.
var AskAbove = askAbove

func init() {
	backoff = func(int) time.Duration { return time.Millisecond }
	askAbove = 2 << 20
}
