package bulk

import (
	"cmp"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// Options of [Copy] and [Inspect]. The zero value is ready.
type Options struct {
	// Images is how many images are worked on at once. 0 means 3.
	Images int
	// Blobs is how many blobs are transferred at once, those of at most 64 KiB
	// apart, of which it is twice as many. 0 means 4.
	Blobs int
	// Platforms chooses from indexes, as in [pipeline.Options].
	Platforms []oci.Platform
	Verify    pipeline.Verify
	// Filters change images on their way, as in [pipeline.Options]. A layer that
	// images share goes through them once.
	Filters filter.Chain
	// FilterSpecs are Filters as the user wrote them, for the layer cache.
	FilterSpecs []string
	// LayerCache is the path of the file that keeps what filters made of layers
	// between runs; "" is none. A file that can't be used is warned of. Several
	// processes may share it.
	LayerCache string
	// BlobCache is the path of the file that keeps in which repositories of a
	// registry blobs are, so that later runs mount them into others; "" is none. A
	// file that can't be used is warned of. Several processes may share it.
	BlobCache string
	// DryRun writes nothing; the report is the plan.
	DryRun bool
	// FailFast ends the run at the first image that fails.
	FailFast bool
	// FollowMoved takes what a tag has now if that isn't what was listed.
	FollowMoved bool
	// Name gives an image's name at the destination. nil keeps its own. An error
	// of it is that image's.
	Name func(oci.Item) (oci.Ref, error)
	// Ahead reads the whole listing and checks all names at the destination before
	// the first image is begun: for names that may collide. A destination that
	// is an [oci.Spread] has it always.
	Ahead bool
	// Events takes progress; see [Event]. nil discards it.
	Events func(Event)
	// Warn takes one line that the user should see. nil discards it.
	Warn func(string)
}

func (o Options) images() int { return cmp.Or(max(o.Images, 0), 3) }
func (o Options) blobs() int  { return cmp.Or(max(o.Blobs, 0), 4) }

// name gives item's name at the destination. An image that has no tag goes by
// its digest.
func (o Options) name(item oci.Item) (oci.Ref, error) {
	to := item.Ref
	if o.Name != nil {
		var err error
		if to, err = o.Name(item); err != nil {
			return to, err
		}
	}
	if to.Tag == "" && to.Digest == "" {
		to.Digest = item.Desc.Digest
	}
	return to, nil
}
