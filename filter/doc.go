// Package filter changes images on their way, or looks at them. [Table] is the
// list of what there is; [ParseAll] makes a [Chain] of what `-f` says.
//
//	all.go     the table, one line a filter
//	kind.go    what a line of it holds, and what filters are made with
//	spec.go    the grammar NAME[:k=v[,k=v...]]; options.go its values
//	chain.go   filters in order, and who is told of a finished image
//	pass.go    what filters of entries share
//
// Each other file is one filter. One works on the entries of a layer in a single
// pass ([oci.EntryFilter]), on an image's config before its layers are read
// ([oci.ImageFilter]), or on what came out ([Observer]); some do two of these.
//
// A filter never changes an entry that it was given: it passes a changed copy on,
// and what it leaves alone as it is, so that a layer of which nothing changed can
// keep its blob. This package reads no layer, compresses nothing and writes no tar.
package filter
