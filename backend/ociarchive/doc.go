// Package ociarchive keeps images in tar archives of an OCI image layout:
// oci-archive://PATH[:REF], as skopeo calls them too.
//
// What is in an archive, and what images are called there, is as in ocidir://.
// One may be compressed with gzip or zstd, or come through a pipe, to be read; it
// is written plain.
//
// A tar has each member's size in front of it, and bodies come several at once,
// in any order, some of unknown size: so blobs are kept in files without a name
// beside the target (see internal/spool), one for each that is written at a time.
// Finish joins them, in the kernel where that can do it, and frees each when it
// is copied; a file system that shares blocks copies nothing. The order is always
// the same: oci-layout, index.json, the blobs by name, with the time and owner 0,
// so that the same images make the same archive, whoever came first.
//
// The archive that is there is added to: its other images are kept, their blobs
// copied from file to file, and blobs that no name leads to are left out. The new
// file takes the old one's place when it is whole, on the disk and read back; if
// nothing changed the old one stays. Runs that end at the same time wait for each
// other (.NAME.lock) and add to what the other made.
package ociarchive
