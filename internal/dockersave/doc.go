// Package dockersave reads and writes the archives of docker save.
//
// [Read] takes every form that docker, podman, skopeo and occystrap write: what
// counts is manifest.json, and where it says that config and layers are. Layers
// may be links to one another, and compressed. Images have no manifest there, so
// one is made up ([layout.Synthetic]).
//
// A [Writer] takes configs and plain layers in any order and at the same time,
// and then writes an archive with them in the order of its images: the same
// images give the same bytes.
package dockersave
