package oci

import (
	"context"
	"io"
	"iter"
)

// A Source gives the content of one repository, archive or layout.
// Implementations are safe for concurrent use.
type Source interface {
	// Resolve returns the manifest that a tag or digest names, and its bytes:
	// whole, verified, at most [MaxManifestSize]. It returns an error matching
	// [ErrNotFound] if there is none. A place that keeps no manifest makes one up,
	// the same each time, with layers as plain tar: [AnnotationSynthetic] says so.
	Resolve(ctx context.Context, ref string) (Descriptor, []byte, error)

	// Head is Resolve without the bytes: digest, size, media type. A place
	// that keeps no manifest answers from what it kept of Commit's from.
	Head(ctx context.Context, ref string) (Descriptor, error)

	// Fetch opens blob d. The reader fails with [ErrDigestMismatch], before it
	// gives the last bytes, if the bytes are not d's. ctx rules the reads too.
	Fetch(ctx context.Context, d Descriptor) (io.ReadCloser, error)
}

// A Target is a place opened for a run. It owns what its images share: an
// index.json, a catalog, blobs.
type Target interface {
	Traits() Traits
	// Image opens the destination of one image. Many may be open at once.
	Image(ctx context.Context, name Ref) (Destination, error)
	// Finish makes what was committed visible together, where the place is
	// one file (an archive); else it does nothing.
	Finish(ctx context.Context) error
	// Close releases. Without Finish an archive is discarded.
	Close() error
}

// Traits say what the pipeline must deliver.
type Traits struct {
	Many    bool // more than one image
	Index   bool // indexes and artifacts; else one platform is chosen
	Raw     bool // layers as plain tar, Desc.Digest is the diffID (dir, docker-save, daemon, bundle, mounts)
	Ordered bool // layers one at a time, lowest first (bundle)
	Late    bool // one file: none of its images is there before Finish
	// Ahead: opening an image there costs nothing and writes nothing, so a run
	// opens images before their turn, looks them up and reads their manifests.
	Ahead bool
	// Compression is what layers are to be stored as: "gzip", "zstd" or "none".
	// "" or "keep" leaves a layer that a manifest describes as it is; what no
	// manifest describes ([AnnotationSynthetic]) gets gzip. It means nothing
	// where Raw is set.
	Compression string
}

// A Destination takes one image, children before parents. What isn't committed
// is discarded by Close. Implementations are safe for concurrent use.
type Destination interface {
	Source // of the image that this name has now; skip asks Head("")

	// Has reports whether blob d is there already.
	Has(ctx context.Context, d Descriptor) (bool, error)
	// PutBlob stores b and returns its descriptor with digest and size. It
	// calls b.Open once for each attempt.
	PutBlob(ctx context.Context, b Blob) (Descriptor, error)
	// PutManifest takes raw byte for byte. A place may hold the root's bytes
	// back until Commit, so that it is sent once, under its name.
	PutManifest(ctx context.Context, raw []byte, mt MediaType) (Descriptor, error)
	// Commit makes root durable, then visible under the name. from is the
	// source's manifest, kept where the place can keep it; from.Platform is
	// set if root is one platform of an index. Of a manifest that was made up
	// from.Digest is the config's.
	Commit(ctx context.Context, root, from Descriptor) error
	// Verify compares what is there with what was put: the place's own short
	// check, or with full every byte.
	Verify(ctx context.Context, root Descriptor, full bool) error
	// Close discards what was not committed. After Commit it only releases.
	Close() error
}

// A Blob is content to be stored, perhaps not yet made.
type Blob struct {
	Desc   Descriptor // Digest "" and Size -1 if they are known only at the end
	DiffID Digest     // of a layer, if known
	Layer  int        // 0 is the lowest; [NoLayer], [UnknownLayer]
	// Open starts a pass over the content. It is called once for each
	// attempt, so it must give the same bytes every time.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// What [Blob.Layer] can be beside a layer's place.
const (
	NoLayer      = -1 // a config, or what else is no layer
	UnknownLayer = -2 // a layer; which one its digest will tell
)

// AnnotationSynthetic is set on the descriptor that [Source.Resolve] and
// [Source.Head] give of a manifest that the place made up, because it keeps none
// (docker save's archives, folders, daemons). Nobody else has such a manifest, so
// there is nothing of it to keep.
const AnnotationSynthetic = "io.quaymaster.synthetic"

// A Streamer is a [Source] that gives an image once, front to back, in whatever
// order (the docker daemon). Its other methods work too, but need a copy of the
// whole on disk.
type Streamer interface {
	// Stream gives the parts of the image ref in the order of their arrival: the
	// config ([NoLayer]), each different layer once, and behind its parts the
	// manifest, if the place keeps it, by its media type.
	//
	// A layer's Desc says how it is compressed and what size it has; Desc.Digest,
	// DiffID and Layer are set as far as they are known before it is read. Open
	// works once, and until the next part is asked for; a part that isn't read is
	// passed over. An error ends the stream: parts may be missing then. After one,
	// or after break, Stream may be called again, for all of it.
	Stream(ctx context.Context, ref string) iter.Seq2[Blob, error]
}

// A Describer is a [Source] that can tell an image's config without reading the
// image.
type Describer interface {
	// Describe gives the descriptor that Resolve would give, as far as it is
	// known, and a config with all that the place knows: perhaps not the bytes
	// of the image's own, whose digest [AnnotationConfig] says if it is known.
	// Errors are those of Resolve.
	Describe(ctx context.Context, ref string) (Descriptor, []byte, error)
}

// AnnotationConfig holds, on the descriptor that [Describer.Describe] gives, the
// digest of the image's own config.
const AnnotationConfig = "io.quaymaster.config"

// A Mounter is a [Destination] that can take a blob from another repository of
// its registry.
type Mounter interface {
	// Mount takes d over from fromRepo. false and no error means that the
	// registry would not; the blob is to be put. From the image's own repository
	// it tells in one request whether d is there, and begins its upload if not.
	Mount(ctx context.Context, d Descriptor, fromRepo string) (bool, error)
	// Sibling reads from another repository of the same registry: where a
	// mount is refused, the bytes come from there and not from the source again.
	Sibling(repo string) Source
}

// A Lodger is a [Source] that is a repository of a registry: what it has may be
// mounted into the others there.
type Lodger interface {
	// Lodging gives the registry, host[:port], and the repository.
	Lodging() (registry, repository string)
}

// A Foreseer is a [Destination] that does better if it knows what comes: a
// registry asks for tokens of several repositories together.
type Foreseer interface {
	// WillWrite says that the image is about to be written. It makes no request.
	WillWrite()
}

// A Shelf is a [Target] whose blobs are stored once for all of its images (a
// layout, a folder): what one image put, another has.
type Shelf interface {
	SharedBlobs() bool
}

// A Spread is a [Target] of many places: a path with placeholders. A run that
// knows how many images each place gets says so, so that a place is finished as
// soon as it has all of them. Places are in themselves as one [Target] each.
type Spread interface {
	// Place gives where the image name goes, as a URI. The error matches
	// [ErrUsage].
	Place(name Ref) (string, error)
	// Begin says that images are to come into place, before the first of them.
	Begin(place string, images int)
	// End finishes place, or without keep discards what an archive has so far,
	// and releases it. No destination in it may be open.
	End(ctx context.Context, place string, keep bool) error
}

// A Namer is a [Target] that keeps less of a name than all of it, so that two
// images may come to the same one.
type Namer interface {
	// NameOf gives what image name is called there.
	NameOf(name Ref) string
}

// A TagLister is a [Source] that knows its tags.
type TagLister interface {
	// Tags lists them, each once, in the place's own order. An error ends the
	// listing; after the first tags it matches [ErrIncomplete].
	Tags(ctx context.Context) iter.Seq2[string, error]
}

// A ReferrerLister is a [Source] that knows what refers to a manifest.
type ReferrerLister interface {
	// Referrers lists the manifests whose subject is subject, of artifactType, or
	// all where that is "". Nothing refers to what isn't there. An error ends the
	// listing; after the first it matches [ErrIncomplete].
	Referrers(ctx context.Context, subject Digest, artifactType string) iter.Seq2[Descriptor, error]
}
