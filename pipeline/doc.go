// Package pipeline takes one image from its source to its destination.
//
// [Copy] is [Begin], which finds out what is to be done and moves nothing
// (begin.go), and [Begun.Finish]. It goes: is it there already (skip.go), which
// manifest does the listing mean (resolve.go), which of its platforms are wanted
// (choose.go, on the pure functions of platform.go), children before parents
// (tree.go), blobs through a [Mover] (mover.go), the root under its name last,
// verified. Places that want
// plain tar layers get them from raw.go. Without a choice of platforms every
// manifest passes byte for byte.
//
// With filters, each layer of an image is a [Making] (making.go) that the Mover
// sees to (filtered.go), then config, manifest and indexes are edited to say what
// was made, in place and nothing else (edit.go). So is a layer that the target
// wants compressed otherwise (codec.go, recode.go): its tar and diffID stay, and a
// manifest that the source made up becomes a real one; docker.go has what docker's
// manifests can't hold. Where all of that is known before, the image may turn out
// to be there (foresee.go).
//
// A source that gives its image once, front to back, has its parts put as they
// come (stream.go, streampart.go, streamlayer.go), those of a layer seen by
// looker.go where filters only look; in order where the target wants that
// (streamorder.go); and the manifest is made at the end (streamend.go). What it
// tells of the image before is in describe.go.
//
// [Inspect] reads an image's metadata and no layer.
//
// It knows nothing of other images: what a run shares, slots and blobs, is in
// the Mover that its caller gives (package bulk).
package pipeline
