package oci

import (
	"context"
	"iter"
	"time"
)

// An Item is one image that a listing found.
type Item struct {
	Ref Ref // its name; Ref.Digest is empty even where Desc.Digest is known
	// Desc is what the name meant when it was listed. Digest is "" where the
	// listing doesn't know it, MediaType likewise, Size 0.
	Desc    Descriptor
	IsIndex bool      // of several platforms; from the listing, or from Desc
	Bytes   int64     // sum of the compressed layers as the listing counts them, -1 if it doesn't
	Set     time.Time // when the name was set to this digest; zero if unknown
	Expires time.Time // when the name goes away; zero for never or unknown
	To      Ref       // where it is to go, from who chose that image by image; else zero
}

// A Discoverer lists the images of a run, lazily and in a stable order. An
// error says that the listing is incomplete ([ErrIncomplete]) and ends it.
type Discoverer interface {
	Discover(ctx context.Context) iter.Seq2[Item, error]
}

// A Listing is what a [Discoverer] can say of itself at any time.
type Listing struct {
	Found        int      `json:"found"`        // images found so far; some may not have been handed out yet
	Done         bool     `json:"complete"`     // Found is final
	Repositories int      `json:"repositories"` // repositories looked at
	Hidden       []string `json:"not_visible"`  // repositories that answered as not visible
	// Companions are cosign's tags (sha256-….sig, .att, .sbom) that the listing
	// showed of images that match, and that are not among the images.
	Companions int  `json:"companions"`
	Anonymous  bool `json:"anonymous"` // no credentials were used
}

// A Lister is a [Discoverer] that counts.
type Lister interface {
	Discoverer
	Listing() Listing
}
