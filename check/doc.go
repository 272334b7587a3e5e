// Package check says whether an image is valid, bit for bit.
//
// A [Checker] is made for a run. [Checker.Image] reads one image, all platforms
// of an index, and gives a [Report]; [Table] lists what it looks for. Metadata
// comes first: manifests, indexes and configs against the image specification
// and against each other. Then, unless [Options.Fast] is set, every layer is
// read once in a run however many images share it: its digest and size, what it
// is compressed with, its diffID, and the entries of its tar. Last come the
// layers of an image together: links into lower layers, names in several.
//
// What is wrong with an image is a [Result]; an error means that it could not be
// read, so that nothing is known of it. Nothing is unpacked and nothing that an
// image holds is believed: memory is bounded whatever it claims.
package check
