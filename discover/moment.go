package discover

import (
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// A period is a stretch of time: from since, inclusive, to before until. A zero
// time is open.
type period struct{ since, until time.Time }

// has reports whether t is in p. An unknown time is in none but the open one.
func (p period) has(t time.Time) bool {
	if t.IsZero() {
		return p == period{}
	}
	return !t.Before(p.since) && (p.until.IsZero() || t.Before(p.until))
}

// readPeriod reads the options since and until. A date is its whole day in
// UTC: since begins with it, until ends with it. A time is itself, both ways
// inclusive, to the second that Quay counts in.
func readPeriod(u backend.URI) (period, error) {
	since, _, err := readMoment(u, "since")
	if err != nil {
		return period{}, err
	}
	until, day, err := readMoment(u, "until")
	if err != nil {
		return period{}, err
	}
	switch {
	case until.IsZero():
	case day:
		until = until.AddDate(0, 0, 1)
	default:
		until = until.Truncate(time.Second).Add(time.Second)
	}
	if !until.IsZero() && !since.Before(until) {
		return period{}, oci.Usage(fmt.Sprintf("%s: since=%s is behind until=%s", u, u.Option("since"), u.Option("until")))
	}
	return period{since, until}, nil
}

// readMoment reads option name; day says that it was a date.
func readMoment(u backend.URI, name string) (t time.Time, day bool, err error) {
	v := u.Option(name)
	if v == "" {
		return time.Time{}, false, nil
	}
	if t, err := time.Parse(time.DateOnly, v); err == nil && t.Year() > 0 {
		return t, true, nil
	}
	if t, err := time.Parse(time.RFC3339, v); err == nil && t.UTC().Year() > 0 {
		return t.UTC(), false, nil
	}
	return time.Time{}, false, oci.Usage(fmt.Sprintf("%s: %s=%s: write a date, %s=2026-01-31, or a time, %s=2026-01-31T15:04:05Z; UTC unless the time says otherwise",
		u, name, v, name, name))
}
