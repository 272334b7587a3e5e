// Package mounts extracts the layers of an image each into a folder of its own and
// mounts them on top of each other with overlayfs: mounts://PATH. Linux only; the
// mount needs root, and stays when the program ends.
//
//	PATH/<diffID>/layer/        one layer, whiteouts as overlayfs has them
//	PATH/<diffID>/layer.json    what vouches for it
//	PATH/rootfs/                the mount: the image's root file system
//	PATH/delta/, working/       where overlayfs keeps what is changed in rootfs
//	PATH/l/                     short links to the layers, 0 being the topmost
//	PATH/container-config.json  the image's config, its bytes unchanged
//	PATH/config.json            how runc and its like run it
//	PATH/plan.json              what is mounted, and the command that does it
//
// plan.json is there last: with it, the folder is complete. With mount=false there is
// no mount and no config.json (the user is looked up in rootfs), and whoever has the rights runs its command;
// users other than root can write such folders too (the attributes are user.overlay.*
// then, and the mount is to be made in a user namespace of theirs).
//
// Layers come in any order and wait in files without a name until those below them
// are there: which whiteouts are needed, and how a directory looks that a layer has no
// entry for, is known only then. Of a layer that stands twice in an image the lower
// one has no part in the result, and overlayfs takes no folder twice; it is left out.
//
// The folder is of one image. A second run of the same image takes what is there
// and mounts it if it isn't mounted; another image is refused, since what
// was changed in rootfs would belong to nothing any more. The folder's mode is
// 0700: in an image that nobody vouches for may be programs that run as root.
package mounts
