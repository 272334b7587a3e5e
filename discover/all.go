package discover

import (
	"maps"

	"github.com/quaymaster/quaymaster/backend"
)

// Table lists the ways to discover images.
var Table = backend.Table{
	quayKind,
	listKind,
}

// withReading adds to the options of a way those that say how the images that
// it finds are read. The command line takes them, as it does with registry://.
func withReading(own map[string]string) map[string]string {
	all := map[string]string{
		"username":     "login at the registry",
		"password":     "its password",
		"plain-http":   "true speaks HTTP",
		"insecure":     "the same as plain-http",
		"tls-verify":   "false doesn't check certificates",
		"os":           "take the images of this operating system from indexes",
		"architecture": "take the images of this architecture from indexes",
		"arch":         "the same as architecture",
		"variant":      "take this variant of the architecture",
	}
	maps.Copy(all, own)
	return all
}
