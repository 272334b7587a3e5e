// Package layer opens, reads and rewrites layer blobs.
//
// [Open] tells gzip, zstd and plain tar by their first bytes and gives the tar;
// [Walk] gives its entries. A [Pass] rewrites a layer by a chain of filters
// (oci.EntryFilter), with one decompression and one compression whatever the
// chain, and says whether anything came out otherwise than it went in. [Recode]
// compresses a layer otherwise, and leaves its tar as it is.
//
// It goes by the bytes and not by the media type, which can lie; [CodecOf] says
// what a media type promises, for a caller who wants to compare. Memory is
// bounded whatever the blob claims, and what it may grow to is too ([Options]).
// Decoders and encoders are pooled: a run of many layers makes few. What is
// written is the same bytes on any machine, for any number of cores
// ([Codec.ID]).
//
// What a layer's entries mean to the layers below it is not for this package.
package layer
