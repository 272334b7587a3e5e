// Package dockerpush reads an image from a Docker or Podman daemon by having the
// daemon push it to us: dockerpush://IMAGE[:TAG]. That is faster than "docker save"
// (docker://), which is one stream: a push sends layers in parallel.
//
// For one push a registry is set up on a port of 127.0.0.1, over TLS with a
// certificate of its own that is made in memory. The daemon is asked to tag the
// image for it and to push that tag; then tag and registry go away, whatever came
// of it. Only who knows this push's random repository and password gets
// anywhere in that registry, so that other users of the machine can neither read
// nor add anything. Blobs wait in files without a name until the source is closed.
//
// What is read is what the daemon pushed, byte for byte: a manifest with compressed
// layers. A daemon that doesn't keep them compressed makes other digests of an
// image than the registry has that it came from.
//
// The daemon must be on this machine and see its 127.0.0.1: Docker
// takes a self-signed certificate there without being told to, and podman is told.
// A run that is killed leaves a tag 127.0.0.1:PORT/quaymaster-push/… in the daemon;
// the next run removes it, unless the image has no other name.
package dockerpush
