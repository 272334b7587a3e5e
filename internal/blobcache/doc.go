// Package blobcache keeps in a file in which repositories of registries the blobs
// are that runs brought there, so that a later run into another repository mounts
// them instead of sending them again.
//
// The file is text. Below the line that names it, each line is one blob of one
// registry: its digest, the day of its last use (days since 1970), the registry,
// and one or two repositories.
//
// Several processes may share a file: [Cache.Save] merges, under a lock. What an
// entry says is a claim, which the registry confirms by mounting the blob.
package blobcache
