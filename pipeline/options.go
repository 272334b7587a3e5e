package pipeline

import (
	"fmt"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

// An Image is one image on its way. Every field but Item.Desc must be set.
type Image struct {
	Item   oci.Item
	Source oci.Source      // the place that holds Item
	Dest   oci.Destination // opened for To; the caller closes it
	Traits oci.Traits      // of Dest's target
	To     oci.Ref         // its name there
}

// A Verify says how what was written is checked.
type Verify int

const (
	// VerifyDefault is the place's own short check.
	VerifyDefault Verify = iota
	// VerifyFull reads back and hashes every byte, also of an image that was
	// there already.
	VerifyFull
	// VerifyNone trusts.
	VerifyNone
)

// Options of [Copy]. The zero value copies all platforms and verifies.
type Options struct {
	// Platforms chooses from an index: none takes it whole (or linux/amd64
	// where the place takes no index), one takes that child's manifest, several
	// make a new index. Each must be there. An image that is no index must be
	// of one of them.
	Platforms []oci.Platform
	Verify    Verify
	// DryRun writes nothing. The report says what would be done.
	DryRun bool
	// FollowMoved takes what a tag has now if that isn't what was listed.
	FollowMoved bool
	// Filters change images on their way, each child of an index; artifacts and
	// attestations pass as they are. What the filters leave as it was keeps its
	// bytes and digests. Entries see each layer that the Mover doesn't know.
	Filters filter.Chain
	// Mover brings the blobs. nil puts what the destination doesn't have.
	Mover Mover
	// Moved is called once all that the image's root refers to is there: what is
	// left is to commit and verify it. It is called once at most. nil is fine.
	Moved func()
	// Warn takes one line that the user should see, the same one for images of
	// which the same is to be said. nil discards it.
	Warn func(string)
}

func (o Options) warnf(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}
