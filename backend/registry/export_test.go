package registry

import "time"

func init() { backoff = func(int) time.Duration { return time.Millisecond } }
