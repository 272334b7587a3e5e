// Package oci is the floor of the module: the few types and interfaces that
// every other package speaks.
//
// A [Source] gives content by descriptor. A [Target] is a place opened for a
// run; it hands out one [Destination] per image, and only its Commit makes an
// image visible. A [Discoverer] lists the images of a run.
//
// Words follow the OCI image and distribution specifications, v1.1. This
// package does no I/O and imports nothing else of the module.
package oci
