package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// untold leaves of err what isn't among the errors that were told: nothing of failures,
// which items have all of, and of refusals the lines that none of told is in. It is of
// the same kinds.
func untold(err error, told []string) error {
	if !errors.Is(err, oci.ErrUsage) && !errors.Is(err, oci.ErrRefused) {
		return errors.Join(errReported, err)
	}
	said := strings.Split(strings.Join(told, "\n"), "\n")
	lines := slices.DeleteFunc(strings.Split(err.Error(), "\n"), func(line string) bool {
		return slices.ContainsFunc(said, func(s string) bool { return s != "" && strings.Contains(line, s) })
	})
	if len(lines) == 0 {
		return errors.Join(errReported, err)
	}
	return &partError{strings.Join(lines, "\n"), err}
}

// A partError is an error of which only a part is to be told yet.
type partError struct {
	text string
	err  error
}

func (e *partError) Error() string { return e.text }
func (e *partError) Unwrap() error { return e.err }
