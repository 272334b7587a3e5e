// Package layercache keeps in a file what filters made of layers, so that a
// later run needn't do it again.
//
// The file is occystrap's layer cache, version 1, with one top-level key more,
// "quaymaster", that occystrap doesn't read. Its own "layers" has one entry for
// each source layer, so that two sets of filters would push each other out, and
// says nothing of diffIDs, without which no config can be written; so what is
// used here is the other key, which has an entry for each layer, chain of filters
// and codec. "layers" is written besides, for whoever reads it, and used where
// its entry is one of ours that occystrap has kept.
//
// Several processes may share a file: [Cache.Save] merges, under a lock. What an
// entry says is a claim: the caller looks whether the blob is there.
package layercache
