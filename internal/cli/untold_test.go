package cli

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// What items told isn't told again, and what is refused or wrong has a line each.
func TestUntold(t *testing.T) {
	failed := errors.Join(errors.New("push a: no"), errors.New("push b: no"))
	refused := errors.Join(oci.Refuse("push a: no"), oci.Refuse("push b: never\x1b"))
	for _, tt := range []struct {
		err        error
		told, want []string
	}{
		{err: failed, told: []string{"no"}},
		{err: failed, want: []string{"push a: no; push b: no"}},
		{err: refused, told: []string{"no", "never\x1b"}},
		{err: refused, told: []string{"no"}, want: []string{"push b: never\uFFFD"}},
		{err: refused, told: []string{"no\n\n"}, want: []string{"push b: never\uFFFD"}},
		{err: refused, want: []string{"push a: no", "push b: never\uFFFD"}},
		{err: oci.Usage("p:1:2: x\np:2:2: y"), want: []string{"p:1:2: x", "p:2:2: y"}},
	} {
		err := tt.err
		if len(tt.told) > 0 {
			err = untold(err, tt.told)
		}
		if got := messages(err); !slices.Equal(got, tt.want) {
			t.Errorf("%v after %q: got %q, want %q", tt.err, tt.told, got, tt.want)
		}
		if errors.Is(err, oci.ErrRefused) != errors.Is(tt.err, oci.ErrRefused) || errors.Is(fmt.Errorf("%w", err), oci.ErrUsage) != errors.Is(tt.err, oci.ErrUsage) {
			t.Errorf("%v became another kind", tt.err)
		}
	}
}
