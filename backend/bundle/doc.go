// Package bundle writes an image as an OCI runtime bundle, oci://PATH: a folder
// that runc and its like run.
//
//	PATH/rootfs/                the root file system, whiteouts applied
//	PATH/config.json            how to run it, made of the image's config
//	PATH/container-config.json  the image's config, its bytes unchanged
//
// The folder is built beside PATH and takes its name when it is whole and on the
// disk. Its mode is 0700: in an image that nobody vouches for may be programs that
// run as root. What is at PATH already is left alone, unless it is an empty folder
// or overwrite=true says otherwise.
//
// The annotations io.quaymaster.* of config.json say what the bundle was made of,
// so that a second run has nothing to do.
package bundle
