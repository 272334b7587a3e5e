package diff

import "github.com/quaymaster/quaymaster/oci"

// A Status says what became of an image from A to B.
type Status string

const (
	// Added: only B has it.
	Added Status = "added"
	// Removed: only A has it.
	Removed Status = "removed"
	// Changed: both have it, with different digests.
	Changed Status = "changed"
	// Failed: it couldn't be compared, or only in part.
	Failed Status = "failed"
)

// An Image is what differs of one image. docs/cli.md describes the JSON.
type Image struct {
	Image     string           `json:"image"` // REPOSITORY:TAG without host, as A has it
	Status    Status           `json:"status"`
	A         *Side            `json:"a"` // nil where A doesn't have it
	B         *Side            `json:"b"`
	Platforms []PlatformChange `json:"platforms"` // that differ
	Error     string           `json:"error,omitempty"`
}

// A Side is an image as one side has it.
type Side struct {
	Reference string     `json:"reference"`
	Digest    oci.Digest `json:"digest"` // "" where nobody needed to ask, and where the place keeps no manifests
}

// A PlatformChange is what differs of one platform of an image.
type PlatformChange struct {
	Platform string     `json:"platform"` // os/architecture[/variant]
	Status   Status     `json:"status"`
	A        oci.Digest `json:"a_digest,omitempty"` // of the manifest
	B        oci.Digest `json:"b_digest,omitempty"`
	Layers   []Layer    `json:"layers"`
	Files    []File     `json:"files"`
	Config   []Setting  `json:"config"`
	Labels   []Setting  `json:"labels"`
	Error    string     `json:"error,omitempty"`
}

// A Layer is a layer that one side has and the other doesn't; or "recompressed":
// both have its tar, in different blobs.
type Layer struct {
	Change string     `json:"change"` // added, removed, recompressed
	Index  int        `json:"index"`  // from 0, the lowest; in A of one that was removed, else in B
	Digest oci.Digest `json:"digest"` // likewise
	DiffID oci.Digest `json:"diff_id"`
	Size   int64      `json:"size"` // bytes as stored
}

// A File is a path at which the final file systems differ.
type File struct {
	Path   string   `json:"path"`
	Change Status   `json:"change"`
	What   []string `json:"what"` // of one that changed: type, size, content, mode, owner, link, xattrs
	A      *Entry   `json:"a"`
	B      *Entry   `json:"b"`
}

// An Entry is what a file system has at a path.
type Entry struct {
	Type   string `json:"type"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"` // octal digits
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Link   string `json:"link"`
	SHA256 string `json:"sha256"` // of a file's content
}

// A Setting is something of the config, or a label, that differs. nil: not set.
type Setting struct {
	Key  string `json:"key"`  // env, cmd, label, ...
	Name string `json:"name"` // of a variable, port, volume or label
	A    any    `json:"a"`    // a string, or a list of strings
	B    any    `json:"b"`
}

// A Summary counts what a run compared.
type Summary struct {
	A       int `json:"a"` // images
	B       int `json:"b"`
	Equal   int `json:"equal"`
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Changed int `json:"changed"`
	Failed  int `json:"failed"`
	Layers  int `json:"layers_read"`
}

// Different reports whether anything differs.
func (s Summary) Different() bool { return s.Added+s.Removed+s.Changed > 0 }
