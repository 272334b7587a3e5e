// Package all is the table of the places where images live.
package all

import (
	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/archive"
	"github.com/quaymaster/quaymaster/backend/bundle"
	"github.com/quaymaster/quaymaster/backend/daemon"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/backend/dockerpush"
	"github.com/quaymaster/quaymaster/backend/mounts"
	"github.com/quaymaster/quaymaster/backend/ociarchive"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/backend/registry"
)

// Table has one line for each backend.
var Table = backend.Table{
	registry.Kind,
	archive.Kind,
	ocidir.Kind,
	ociarchive.Kind,
	dir.Kind,
	bundle.Kind,
	mounts.Kind,
	daemon.Kind,
	dockerpush.Kind,
}
