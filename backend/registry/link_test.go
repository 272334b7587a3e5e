package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{
		`</v2/a/tags/list?n=3&last=3>; rel="next"`, `<a>; rel=prev, <b>;rel = next`, `<a>; title="x\"y, <c>; rel=next"; REL="last next"`,
		`<a>`, `,,<a>;;`, `<a`, `a>`, `<a> b`, `<a>; rel="`, `<>; rel=next`, `<a>; rel; rel=next`, "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := nextLink([]string{s})
		switch {
		case err != nil:
			if !errors.Is(err, oci.ErrInvalid) || got != "" {
				t.Errorf("%q, %v", got, err)
			}
		case got != "" && !strings.Contains(s, "<") && !strings.Contains(s, got):
			t.Errorf("%q is not in %q", got, s)
		}
	})
}
