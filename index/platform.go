package index

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// Normalize gives p with one spelling for one meaning: x86_64 is amd64, aarch64 is
// arm64, arm64/v8 is arm64, amd64/v1 is amd64, arm is arm/v7; OS features are sorted.
// A missing OS stays missing.
//
// Source: of the spellings that containerd takes for the same (containerd/platforms,
// database.go) those that registries have, and the names that the image specification takes from Go.
func Normalize(p oci.Platform) oci.Platform {
	switch p.Architecture {
	case "x86_64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	}
	switch p.Architecture + "/" + p.Variant {
	case "arm64/v8", "amd64/v1":
		p.Variant = ""
	case "arm/":
		p.Variant = "v7"
	}
	if len(p.OSFeatures) == 0 {
		p.OSFeatures = nil
	} else {
		p.OSFeatures = slices.Sorted(slices.Values(p.OSFeatures))
	}
	return p
}

// Key names p so that platforms are the same if and only if their keys are. Of a
// Windows os.version the first three components count, unless strictOSVersion.
// It is for comparing; [Name] is for people.
func Key(p oci.Platform, strictOSVersion bool) string {
	p = Normalize(p)
	if p.OS == "windows" && !strictOSVersion {
		if v := strings.SplitN(p.OSVersion, ".", 4); len(v) == 4 {
			p.OSVersion = strings.Join(v[:3], ".")
		}
	}
	return name(p, url.QueryEscape) // which escapes what stands between the parts
}

// Name gives p as people write it: "linux/arm/v7", "windows/amd64:10.0.17763";
// OS features follow behind commas. A platform that says nothing is "unknown".
// What p says is not escaped.
func Name(p oci.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	return name(p, func(s string) string { return s })
}

func name(p oci.Platform, escape func(string) string) string {
	var b strings.Builder
	b.WriteString(escape(p.OS) + "/" + escape(p.Architecture))
	if p.Variant != "" {
		b.WriteString("/" + escape(p.Variant))
	}
	if p.OSVersion != "" {
		b.WriteString(":" + escape(p.OSVersion))
	}
	for _, f := range p.OSFeatures {
		b.WriteString("," + escape(f))
	}
	return b.String()
}

// ConfigPlatform gives the platform that an image's config says. The error matches
// [oci.ErrInvalid] if it says none, as configs of artifacts don't.
func ConfigPlatform(config []byte) (oci.Platform, error) {
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return oci.Platform{}, fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
	}
	if c.Architecture == "" {
		return oci.Platform{}, fmt.Errorf("config: %w: it says no architecture", oci.ErrInvalid)
	}
	return c.Platform, nil
}

// PlatformOf gives the platform of the entry d, normalised, and whether it is known.
// What d doesn't say known may, as [Options.Platforms]. Attestations have none.
func PlatformOf(d oci.Descriptor, known map[oci.Digest]oci.Platform) (oci.Platform, bool) {
	var p oci.Platform
	if _, is := Attests(d); is {
		return p, false
	}
	if d.Platform != nil {
		p = *d.Platform
	}
	if c, ok := known[d.Digest]; ok && (p.OS == "" || p.Architecture == "") {
		p = filled(p, c)
	}
	if p.Architecture == "" || p.OS == "unknown" && p.Architecture == "unknown" {
		return oci.Platform{}, false
	}
	if p.OS == "" {
		p.OS = "linux"
	}
	return Normalize(p), true
}

// filled gives p with what it lacks from c, unless they contradict each other.
func filled(p, c oci.Platform) oci.Platform {
	if p.Architecture != "" && Normalize(oci.Platform{Architecture: p.Architecture}).Architecture != Normalize(c).Architecture ||
		p.OS != "" && p.OS != c.OS {
		return p
	}
	p.OS, p.Architecture = c.OS, c.Architecture
	if p.Variant == "" {
		p.Variant = c.Variant
	}
	if p.OSVersion == "" {
		p.OSVersion = c.OSVersion
	}
	if len(p.OSFeatures) == 0 {
		p.OSFeatures = c.OSFeatures
	}
	return p
}
