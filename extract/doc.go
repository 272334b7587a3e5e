// Package extract puts layers on disk as a root file system.
//
// Entries are put by umoci's oci/layer, which resolves every link within the root
// as a chroot would; whiteouts, the directories that a layer has no entry for, and
// what only some users may do are decided here. [Layer] takes one layer: several
// of them, lowest first, into one folder make the file system of an image; each
// into a folder of its own, with [Options.Overlay], what overlayfs mounts.
//
// A layer is hostile: no name or link leads out of the folder, a name that would
// is taken as below the root; what a layer may grow to is bounded. The folder
// must not be written by others meanwhile.
//
// An extraction that failed leaves the folder half done. It is the caller's to
// remove, with [Remove], or to fill again from the lowest layer.
package extract
