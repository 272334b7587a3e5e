package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// usual is what an architecture means where nobody says a variant.
var usual = map[string]string{"arm64": "v8", "arm": "v7", "amd64": "v1"}

// platformName gives os/architecture[/variant], "" where p says nothing.
func platformName(p *oci.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return ""
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// agree reports whether a and b can be one platform: a variant that one of them
// leaves out contradicts nothing.
func agree(a, b oci.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture && (a.Variant == "" || b.Variant == "" || a.Variant == b.Variant)
}

// isAttestation reports whether d stands in an index for what buildkit says
// about another entry: it is no image to run.
func isAttestation(d oci.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// wants reports whether an image for p is to be checked.
func (c *Checker) wants(p oci.Platform) bool {
	return len(c.opt.Platforms) == 0 || slices.ContainsFunc(c.opt.Platforms, func(w oci.Platform) bool {
		return w.OS == p.OS && w.Architecture == p.Architecture &&
			(w.Variant == "" || w.Variant == cmp.Or(p.Variant, usual[p.Architecture]))
	})
}

// chosen gives the entries of an index that are to be checked: of the platforms
// that were asked for, with what is attested of them, and what says no platform.
func (c *Checker) chosen(entries []oci.Descriptor) []oci.Descriptor {
	if len(c.opt.Platforms) == 0 {
		return entries
	}
	taken := map[oci.Digest]bool{}
	for _, d := range entries {
		if !isAttestation(d) && (d.Platform == nil || c.wants(*d.Platform)) {
			taken[d.Digest] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(entries), func(d oci.Descriptor) bool {
		about := oci.Digest(d.Annotations["vnd.docker.reference.digest"])
		return !taken[d.Digest] && !(isAttestation(d) && taken[about])
	})
}
