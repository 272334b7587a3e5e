package companion_test

import (
	"fmt"

	"github.com/quaymaster/quaymaster/companion"
)

// Which tags of a listing are cosign's, and what they are about.
func ExampleParseTag() {
	tags := []string{
		"v1.2",
		"sha256-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.sig",
		"sha256-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
	for _, tag := range tags {
		if d, kind, ok := companion.ParseTag(tag); ok {
			fmt.Println(kind, "of", d[:15])
		}
	}
	// Output: signature of sha256:9f86d081
}
