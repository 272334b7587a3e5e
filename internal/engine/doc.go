// Package engine speaks to a Docker or Podman daemon: the few calls of the Docker
// Engine API that several places need, by plain HTTP over the daemon's socket. Moby's
// own client can't do what podman wants (?tlsVerify=false in a push), so that
// places which push use this one.
//
// Paths have no version in front: every daemon answers those in its own version.
package engine
