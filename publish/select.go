package publish

import (
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// A Selection chooses platforms of a source. The zero value chooses all. Of each
// platform given only what is set is compared: linux/arm is every variant of it,
// and an os.version means every version that begins with its components.
type Selection struct {
	Only   []oci.Platform // if there are any, no others
	Except []oci.Platform // never these
}

// all reports whether s chooses everything.
func (s Selection) all() bool { return len(s.Only)+len(s.Except) == 0 }

// eligible gives s as [index.Options] takes it: nil chooses all.
func (s Selection) eligible() func(oci.Platform) bool {
	if s.all() {
		return nil
	}
	return s.chooses
}

func (s Selection) chooses(p oci.Platform) bool {
	return (len(s.Only) == 0 || anyMatches(s.Only, p)) && !anyMatches(s.Except, p)
}

func anyMatches(patterns []oci.Platform, p oci.Platform) bool {
	return slices.ContainsFunc(patterns, func(pattern oci.Platform) bool { return matches(pattern, p) })
}

// matches reports whether p has all that is set in pattern. Both sides' names are
// normalised, but what normalising adds to pattern isn't: who writes linux/arm
// doesn't say linux/arm/v7.
func matches(pattern, p oci.Platform) bool {
	want, have := index.Normalize(pattern), index.Normalize(p)
	same := func(said, want, have string) bool { return said == "" || want == have }
	for _, f := range pattern.OSFeatures {
		if !slices.Contains(p.OSFeatures, f) {
			return false
		}
	}
	return same(pattern.OS, want.OS, have.OS) &&
		same(pattern.Architecture, want.Architecture, have.Architecture) &&
		same(pattern.Variant, want.Variant, have.Variant) &&
		(pattern.OSVersion == "" || strings.HasPrefix(have.OSVersion+".", want.OSVersion+"."))
}
