package dockerpush

import "time"

// SetManifestTime changes the wait for a manifest until the returned function is called.
func SetManifestTime(d time.Duration) (restore func()) {
	old := manifestTime
	manifestTime = d
	return func() { manifestTime = old }
}
