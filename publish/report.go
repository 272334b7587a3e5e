package publish

import (
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// ReportVersion is the version of the report's JSON. It grows when a key changes
// its meaning or goes; new keys may come at any time.
const ReportVersion = 1

// A Report says what a run did, as JSON (docs/publish.md). It holds no secrets.
type Report struct {
	Version     int       `json:"version"`
	Tool        string    `json:"tool"`    // program and version
	Command     string    `json:"command"` // the verb: "push"
	Run         string    `json:"run"`     // the run's name, as in its journal
	Journal     string    `json:"journal"` // its path; "" where none was kept
	Started     time.Time `json:"started"` // UTC
	Ended       time.Time `json:"ended"`   // UTC
	DryRun      bool      `json:"dry_run"`
	Interrupted bool      `json:"interrupted"`
	// Error is what ended the run, apart from single items.
	Error string `json:"error,omitempty"`
	// Items are in the order of the plan. Of verbs without one there is an item
	// for each repository.
	Items []ItemReport `json:"items"`
	// Undone says what an automatic rollback, or the verb rollback, did: each tag
	// once, in the order of the work.
	Undone []Change       `json:"rollback,omitempty"`
	Totals map[Status]int `json:"totals"` // tags by status
}

// An ItemReport says what became of one item.
type ItemReport struct {
	Source  string     `json:"source,omitempty"` // "registry/src/repo:1"
	Digest  oci.Digest `json:"digest,omitempty"` // of the source
	Kind    Kind       `json:"kind,omitempty"`
	Changes []Change   `json:"destinations"`
	// LostDigests are the manifests that no tag means any more, of untag, clear
	// and remove; or would mean, where that was refused.
	LostDigests []oci.Digest `json:"lost_digests,omitempty"`
	Error       string       `json:"error,omitempty"`
}

// A Change says what became of one tag, or of one repository.
type Change struct {
	Reference string     `json:"reference"` // "quay.io/org/repo:1"
	Status    Status     `json:"status"`
	Old       oci.Digest `json:"old_digest,omitempty"` // "" where there was none
	New       oci.Digest `json:"new_digest,omitempty"` // "" where there is none
	Bytes     int64      `json:"bytes_moved"`          // read from the source for it
	Attempts  int        `json:"attempts,omitempty"`   // of moving the tag
	Platforms []Platform `json:"platforms,omitempty"`  // of a merge
	// Companion is set for a signature, attestation or guard tag that goes along
	// with an item's own tags: "signature", "attestation", "sbom", "referrer", "guard".
	Companion string   `json:"companion,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// A Platform says what a merge does with one entry.
type Platform struct {
	Platform string     `json:"platform"` // "linux/arm/v7", "windows/amd64:10.0.17763"
	Action   string     `json:"action"`   // "added", "replaced", "kept", "dropped", "unchanged"
	Old      oci.Digest `json:"old_digest,omitempty"`
	New      oci.Digest `json:"new_digest,omitempty"`
}

// A Status is what became of a tag.
type Status string

// What becomes of tags. Planned is a dry run's.
const (
	Pushed     Status = "pushed"      // the tag has the source's digest
	Merged     Status = "merged"      // the tag has a list of the source's and its own platforms
	Unchanged  Status = "unchanged"   // it had the digest already
	Deleted    Status = "deleted"     // the tag, or the repository, is gone
	Absent     Status = "absent"      // there was none to be deleted
	Kept       Status = "kept"        // what was to be kept
	Restored   Status = "restored"    // the tag has again the digest that it had
	RolledBack Status = "rolled-back" // it was changed, and changed back
	Conflict   Status = "conflict"    // somebody else moved it meanwhile: left alone
	Skipped    Status = "skipped"     // not begun, because something else failed
	Planned    Status = "planned"
	Failed     Status = "failed"
)

// A Kind is what the source of an item is.
type Kind string

// The kinds.
const (
	SourceImage Kind = "source"    // an image of source code: one manifest, never merged
	Single      Kind = "single"    // one manifest
	Multiarch   Kind = "multiarch" // a list of platforms
)
