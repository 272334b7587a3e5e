// Package daemon reads images out of, and loads them into, a Docker or Podman
// daemon, over its socket by the Docker Engine API (any version with image IDs
// that are digests, so Docker from 1.10; podman by its compatible service).
//
// A daemon keeps no manifest of an image, but for Docker's containerd store. It
// gives one whole image at a time, as a stream in the form of docker save, whose
// parts come in an order of its own: by name, so that layers are mixed and the
// config is before, among or behind them. Names of parts mean something else in
// every daemon; what a part is, its content tells, held against what the daemon
// says of the image beforehand.
//
// Hence the source is an [oci.Streamer] that puts parts on in the order of their
// arrival, and an [oci.Describer] that needs none of them. Who wants an image's
// blobs at random (search, check) makes it save the stream into a file without a
// name, once.
//
// The destination spools plain layers, loads them in one archive, and then asks
// the daemon what it has under the name. A daemon compresses what it pushes anew,
// so digests of manifests don't survive it; the digest of the config, which
// Docker calls the image's ID, does.
package daemon
