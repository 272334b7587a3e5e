package pipeline

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// linuxAMD64 is what places that take no index get of one.
var linuxAMD64 = oci.Platform{OS: "linux", Architecture: "amd64"}

// PlatformName gives os/architecture[/variant], "unknown" where p is nil.
func PlatformName(p *oci.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// isAttestation reports whether d stands in an index for what buildkit says
// about another entry: it is no image to run.
func isAttestation(d oci.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// usualVariant is what an architecture means where nobody says a variant.
var usualVariant = map[string]string{"arm64": "v8", "arm": "v7", "amd64": "v1"}

// variant gives p's variant with the usual one filled in.
func variant(p oci.Platform) string {
	if p.Variant == "" {
		return usualVariant[p.Architecture]
	}
	return p.Variant
}

// matches reports whether an image of platform is one of want: no variant in
// want takes any.
func matches(want, platform oci.Platform) bool {
	return want.OS == platform.OS && want.Architecture == platform.Architecture &&
		(want.Variant == "" || variant(want) == variant(platform))
}

// pick gives the entry for platform want. Where want has no variant, that is
// the entry without one, else the usual one (v8 of arm64, v7 of arm, v1 of
// amd64), else of arm the highest below, else the only one there is. If nothing
// says its platform, the only image is taken.
func pick(entries []oci.Descriptor, want oci.Platform) (oci.Descriptor, error) {
	var images, all []oci.Descriptor // all: of the same os and architecture
	said := false
	for _, d := range entries {
		if isAttestation(d) {
			continue
		}
		images = append(images, d)
		if d.Platform == nil {
			continue
		}
		said = true
		if matches(want, *d.Platform) {
			all = append(all, d)
		}
	}
	if !said && len(images) == 1 {
		return images[0], nil
	}
	for _, v := range preferred(want) {
		if i := slices.IndexFunc(all, func(d oci.Descriptor) bool { return d.Platform.Variant == v }); i >= 0 {
			return all[i], nil
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return oci.Descriptor{}, fmt.Errorf("platform %s: %w; the index has %s", PlatformName(&want), oci.ErrNotFound, platformList(images))
}

// preferred lists the variants that stand for want, best first.
func preferred(want oci.Platform) []string {
	switch {
	case want.Variant != "" && variant(want) == usualVariant[want.Architecture]:
		return []string{want.Variant, ""} // arm64/v8 is arm64
	case want.Variant != "":
		return []string{want.Variant}
	case want.Architecture == "arm":
		return []string{"", "v7", "v6", "v5"}
	}
	return []string{"", usualVariant[want.Architecture]}
}

// choose gives the entries for all of want, in the order of the index, with the
// attestations about them.
func choose(entries []oci.Descriptor, want []oci.Platform) ([]oci.Descriptor, error) {
	chosen := map[oci.Digest]bool{}
	for _, w := range want {
		d, err := pick(entries, w)
		if err != nil {
			return nil, err
		}
		chosen[d.Digest] = true
	}
	var out []oci.Descriptor
	for _, d := range entries {
		about := oci.Digest(d.Annotations["vnd.docker.reference.digest"])
		if chosen[d.Digest] || isAttestation(d) && chosen[about] {
			out = append(out, d)
		}
	}
	return out, nil
}

// others lists the platforms of the images among entries that are not in kept.
func others(entries, kept []oci.Descriptor) []string {
	var out []string
	for _, d := range entries {
		same := func(k oci.Descriptor) bool { return k.Digest == d.Digest }
		if !isAttestation(d) && !slices.ContainsFunc(kept, same) {
			out = append(out, PlatformName(d.Platform))
		}
	}
	return out
}

// names lists the platforms of the images among entries.
func names(entries []oci.Descriptor) []string { return others(entries, nil) }

func platformList(entries []oci.Descriptor) string {
	if len(entries) == 0 {
		return "no image"
	}
	return strings.Join(names(entries), ", ")
}

// keepEntries gives the index raw without the entries whose digest keep
// refuses. All other bytes stay as they are.
func keepEntries(raw []byte, keep func(oci.Digest) bool) ([]byte, error) {
	return editEntries(raw, "manifests", func(d oci.Descriptor, entry json.RawMessage) (json.RawMessage, error) {
		if !keep(d.Digest) {
			return nil, nil
		}
		return entry, nil
	})
}
