// Package engine speaks to a Docker or Podman daemon: the few calls of the Docker
// Engine API that several places need, over the daemon's socket. It reads no more
// of an answer than a limit allows, which Moby's own client doesn't promise.
//
// Paths have no version in front: every daemon answers those in its own version.
package engine
