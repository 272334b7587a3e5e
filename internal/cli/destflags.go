package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/oci"
)

// destFlags are those of process that say what images are called at the
// destination, and what they are there.
type destFlags struct {
	stripNamespace bool
	template       string
	visibility     string // of repositories that are created
	compression    string
	repoTags       string
	said           func(flag string) bool // whether the command line has it
}

func (f *destFlags) add(p *pflag.FlagSet) {
	p.BoolVar(&f.stripNamespace, "strip-namespace", false, "drop the first part of repository names at the destination registry")
	p.StringVar(&f.template, "dest-template", "", "`NAME` of each image at the destination registry, for example {name}:{tag} (docs/cli.md)")
	p.StringVar(&f.visibility, "visibility", "", "public or private: set it for repositories that are created in Quay (needs an API token)")
	p.StringVar(&f.compression, "compression", "", "store layers as gzip, zstd or none; keep (the default) leaves them as they are")
	p.StringVar(&f.repoTags, "repo-tags", "", "full (the default) or basename: names of images in docker's archives and daemons")
}

// check refuses values that no destination takes.
func (f *destFlags) check() error {
	for _, c := range []struct {
		flag, value string
		takes       []string
	}{
		{"visibility", f.visibility, []string{"public", "private"}},
		{"compression", f.compression, []string{"keep", "gzip", "zstd", "none"}},
		{"repo-tags", f.repoTags, []string{"full", "basename"}},
	} {
		if c.value != "" && !slices.Contains(c.takes, c.value) {
			return oci.Usage(fmt.Sprintf("--%s takes %s, not %s", c.flag, strings.Join(c.takes, ", "), c.value))
		}
	}
	if f.stripNamespace && f.template != "" {
		return oci.Usage("--strip-namespace and --dest-template exclude each other")
	}
	return nil
}
