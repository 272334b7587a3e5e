// Package daemontest starts real Docker and Podman daemons for tests: they share
// nothing with one that the machine may have, have no network and end with the
// test.
package daemontest
