// Package diff tells how two images, or two sets of them, differ: [Images] pairs
// them by name, and of each pair whose digests differ gives the layers, files,
// configs and labels that do.
//
// Layers are read as little as the answer allows: none where the lists of
// layers are equal, only those above the common base where both sides replace
// the same paths of it, and each distinct layer once per run. Files are compared
// in the final file systems; names are compared as text, and links aren't
// followed.
//
// Memory: a listing takes some 200 bytes and the name for each entry and goes
// when no further pair needs it; of a common base the merged trees hold only
// what the layers above it touch.
package diff
