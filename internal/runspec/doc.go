// Package runspec makes the config.json of an OCI runtime bundle, which says how a
// container is run, of an image's config, as the image specification's conversion
// says and with what docker adds to it.
package runspec
