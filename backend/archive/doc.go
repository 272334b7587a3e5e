// Package archive keeps images in archives of docker save: tar://PATH[:REF].
//
// As a source, every form that docker, podman, skopeo and occystrap write is
// read; an archive that holds an OCI layout too (docker since version 25) is read
// as that, byte for byte. Without REF the path stands for all images in it.
//
// As a target, an archive has layers as plain tar, named by their diffIDs, each
// once, and is the same for the same images whoever came first; docker load,
// podman load and skopeo take it. Layers are spooled into files without a name
// beside the target, as they come, and joined by Finish, which reads the archive
// back before it takes the name. Images that the archive had are kept, unless
// overwrite=true; their layers are copied from file to file. Where nothing
// changed the file stays. Which source an image came from stands in manifest.json
// under a key that other programs pass over: by that the next run knows what is
// there.
package archive
