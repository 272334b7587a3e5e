// Package dir writes images as occystrap's dir:// does: dir://PATH[:REF].
//
//	PATH/CONFIGHEX.json       the config, its bytes unchanged
//	PATH/DIFFIDHEX/layer.tar  one layer as plain tar; shared by all images
//	PATH/manifest.json        a list of one object, as docker save writes it; or
//	PATH/manifest-kolla_nova-api-2025.1.json  with unique_names=true, one an image
//	PATH/catalog.json         image -> tag -> name of the manifest file
//	PATH/manifest/            with expand=true, the image's root file system, named
//	                          as its manifest file; manifest.expanded vouches for it
//
// The JSON files look as Python's json.dumps(indent=4, sort_keys=True) writes
// them. An image's key in the catalog has no registry host, which is occystrap's
// format; so what a file name or key cannot tell apart is told apart by hash, or
// refused, and never overwritten. An image that is named by digest only has the
// digest's hex as its tag.
//
// The manifest has one key more than occystrap's, which others ignore: Source
// {reference, digest, platform, filters, sizes}: what the image was called, the
// digest of the manifest that its name had where it came from, the platform that
// was chosen of an index, the filters that were applied, and the bytes of each
// layer.tar.
//
// Several processes may write one folder at a time (see internal/stage). Files
// that are not ours, such as occystrap's own layer folders named by compressed
// digests, are left alone; a layer.tar that none of our manifests vouches for is
// hashed before it is used.
package dir
