package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// platformFlags choose platforms of indexes. Nothing set means the whole index.
type platformFlags struct {
	platforms         []string
	os, arch, variant string
}

func (f *platformFlags) add(p *pflag.FlagSet) {
	p.StringSliceVar(&f.platforms, "platform", nil, "take only `OS/ARCH[/VARIANT]` of an index; repeatable, or with commas")
	p.StringVar(&f.os, "os", "", "operating system of the platform (linux if only the architecture is set)")
	p.StringVar(&f.arch, "architecture", "", "architecture of the platform (amd64 if only the system is set)")
	p.StringVar(&f.variant, "variant", "", "variant of the platform")
}

// defaults chooses linux/amd64 unless something else was asked for, as occystrap
// does.
func (f *platformFlags) defaults() {
	if len(f.platforms) == 0 && f.os == "" && f.arch == "" && f.variant == "" {
		f.os, f.arch = "linux", "amd64"
	}
}

// list gives the platforms that were asked for; the options of source win over
// the flags.
func (f *platformFlags) list(source backend.URI) ([]oci.Platform, error) {
	var all []oci.Platform
	for _, s := range f.platforms {
		parts := strings.Split(s, "/")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
			return nil, oci.Usage(fmt.Sprintf("--platform %q: write OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64", s))
		}
		p := oci.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
		all = append(all, p)
	}
	or := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	one := oci.Platform{
		OS:           or(source.Option("os"), f.os),
		Architecture: or(source.Option("architecture"), source.Option("arch"), f.arch),
		Variant:      or(source.Option("variant"), f.variant),
	}
	if one.OS == "" && one.Architecture == "" && one.Variant == "" {
		return all, nil
	}
	if len(all) > 0 {
		return nil, oci.Usage("--platform and --os, --architecture, --variant exclude each other")
	}
	one.OS, one.Architecture = or(one.OS, "linux"), or(one.Architecture, "amd64")
	return []oci.Platform{one}, nil
}

// noChoice returns an error if the destination u chooses a platform: that is
// for sources.
func noChoice(u backend.URI) error {
	for _, name := range []string{"os", "architecture", "arch", "variant"} {
		if v := u.Option(name); v != "" {
			return oci.Usage(fmt.Sprintf("%s: option %s=%s is for sources; --platform chooses", u, name, v))
		}
	}
	return nil
}
