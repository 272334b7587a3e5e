// Package bulk takes many images from a source to a target, and knows what they
// share.
//
// [Copy] pulls images out of the listing as slots come free, gives each to
// package pipeline (image.go), and says what became of them in listing order.
// Where opening an image costs nothing, those to come are looked up ahead
// (window.go), and what they will need is known (wants.go). One image that fails
// never stops the others. The run's blob table (blobs.go) brings a
// distinct blob from the source once: whoever needs it next mounts it, reads it
// at the destination, or finds it there (mounts.go). Where mounts are refused one read feeds
// many uploads (gather.go). A layer goes through filters once in the
// same way (making.go), and the layer cache knows what it came to in earlier runs
// (cache.go). [Inspect] reads metadata of many.
// [Naming] makes their names in a registry.
//
// Images hold slots of one kind and blob transfers of another, and who waits for
// another's transfer holds none of the second, so nothing waits in a circle. A
// blob's slot is for its bytes: questions and mounts need none.
//
// It neither shows progress nor writes the report: [Event] and [oci.Report] do
// for whoever does.
package bulk
