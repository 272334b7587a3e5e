package runspec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quaymaster/quaymaster/extract"
)

// addVolumes mounts an empty tmpfs at each volume, unless the image has something
// there: that would be hidden.
func addVolumes(spec *rspec.Spec, volumes map[string]struct{}, rootfs string) (warned []string) {
	for _, v := range sortedKeys(volumes) {
		at := path.Clean("/" + v)
		if at == "/" || hasPrefix(at+"/", []string{"/proc/", "/sys/", "/dev/"}) {
			warned = append(warned, fmt.Sprintf("volume %q is left out: the runtime mounts what is there", v))
			continue
		}
		if fi, list, err := extract.Stat(rootfs, at); err == nil && (!fi.IsDir() || len(list) > 0) {
			continue
		}
		spec.Mounts = append(spec.Mounts, rspec.Mount{
			Destination: at, Type: "tmpfs", Source: "tmpfs", Options: []string{"rw", "nosuid", "nodev", "relatime"},
		})
	}
	return warned
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
