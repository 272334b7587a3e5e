// Package search finds files in the layers of images: by name, mode, digest and
// content.
//
// A [Searcher] belongs to a run. It reads each distinct layer once, however many
// images hold it, in one streaming pass, and keeps what it found there: some 130
// bytes and the name for each match, and, where [Query.Details] or
// [Query.Visible] are asked for, 8 bytes for each entry of the layer, from which
// it tells what layers above hide. A [Result] is one image's view of that.
//
// It doesn't choose images: package bulk does.
package search
