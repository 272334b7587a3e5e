package quay

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// An integer is a JSON number that may be null, absent, a fraction or quoted.
// What is no number counts as absent.
type integer struct {
	n   int64
	set bool
}

func (i *integer) UnmarshalJSON(b []byte) error {
	*i = integer{}
	f, err := strconv.ParseFloat(string(bytes.Trim(b, `"`)), 64)
	if err == nil && !math.IsNaN(f) && math.Abs(f) <= 1<<53 { // what a float holds exactly
		*i = integer{int64(f), true}
	}
	return nil
}

// time reads i as Unix seconds; below 1, and behind the year 9999, it is zero.
func (i integer) time() time.Time {
	const lastSecond = 253402300799
	if i.n < 1 || i.n > lastSecond {
		return time.Time{}
	}
	return time.Unix(i.n, 0).UTC()
}
