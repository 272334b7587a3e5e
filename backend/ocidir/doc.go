// Package ocidir keeps images in OCI image layout folders: ocidir://PATH[:REF].
//
// One layout holds many images; blobs that they share are there once. A name in
// index.json is a full reference, quay.io/kolla/nova-api:2025.1, unless REF says
// otherwise, so that a layout can be copied back to where it came from.
//
// As a source ([Kind].Source) a path without REF stands for every entry of
// index.json. As a target the folder may be written by several processes, and
// read by any, at a time: blobs get their final name when they are whole and
// synced, index.json is replaced under a lock (see [internal/stage]). Other tools
// see a plain layout.
//
// [internal/stage]: https://pkg.go.dev/github.com/quaymaster/quaymaster/internal/stage
package ocidir
