package cli

import (
	"io"

	"github.com/quaymaster/quaymaster/filter"
)

// filters makes the chain that -f says. What filters find goes to stdout.
func (a *app) filters(specs []string) (filter.Chain, error) {
	return filter.ParseAll(specs, filter.Env{
		SourceDateEpoch: a.getenv("SOURCE_DATE_EPOCH"),
		Found: func(f filter.Findings) error {
			_, err := io.WriteString(a.out, f.Text())
			return err
		},
	})
}
