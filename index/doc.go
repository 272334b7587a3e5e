// Package index merges and selects what manifest lists and OCI indexes hold. It is
// pure functions: bytes in, bytes out, no I/O, so that any program can use it.
//
// [Parse] reads a list, [Merge] joins a source's with a destination's, all of the
// source or the platforms that are chosen, [Filter] keeps some entries of one,
// [Wrap] makes a list of one manifest. Where nothing changes the bytes that come
// out are those that went in, so that the digest stays.
//
// Entries are told apart by their whole platform ([Key]), not by the architecture
// alone; those that don't say theirs by what the caller read in their configs
// ([Index.Unsaid], [ConfigPlatform]), else by their digest. Attestations follow the image
// that they are about ([Attests]). What isn't understood is kept: fields, annotations,
// numbers as they are spelt.
//
// That a list's children are where it is put is the caller's business.
package index
