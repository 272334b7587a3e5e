package oci

import "time"

// ReportVersion is the version of the report's JSON. It grows when a key
// changes its meaning or goes; new keys may come at any time.
const ReportVersion = 1

// A Report says what a run did, as JSON (docs/report.md). It holds no secrets.
type Report struct {
	Version     int       `json:"version"`
	Tool        string    `json:"tool"`        // program and version
	Command     string    `json:"command"`     // the verb: "process"
	Source      string    `json:"source"`      // URI without secrets
	Destination string    `json:"destination"` // likewise
	Started     time.Time `json:"started"`     // UTC
	Ended       time.Time `json:"ended"`       // UTC
	DryRun      bool      `json:"dry_run"`     // nothing was written
	Interrupted bool      `json:"interrupted"` // by a signal; images may be missing
	// Error is what ended the run or its listing, apart from single images.
	Error   string  `json:"error,omitempty"`
	Totals  Totals  `json:"totals"`
	Listing Listing `json:"listing"`
	// Images are in the order of the listing.
	Images []ImageReport `json:"images"`
	// Created are the repositories that had to be made for this run.
	Created []CreatedRepository `json:"created_repositories"`
	// Requests counts requests by side, host and kind, as the transport names them.
	Requests map[string]int64 `json:"requests,omitempty"`
	// Hosts says what each host had to do, by side and host: "source quay.io".
	Hosts map[string]HostReport `json:"hosts,omitempty"`
	// PeakMemory is the most memory that the program had resident, in bytes; 0
	// where the system doesn't tell.
	PeakMemory int64 `json:"peak_memory,omitempty"`
	// Transfers counts completed movements of blobs by kind: docs/report.md has the names.
	Transfers map[string]int64 `json:"transfers,omitempty"`
}

// A HostReport says what one side of a run had of one host.
type HostReport struct {
	Requests    int64   `json:"requests"`    // sent, further attempts included
	Connections int64   `json:"connections"` // opened
	Retries     int64   `json:"retries"`     // requests that were sent again after a fault
	Limited     int64   `json:"limited"`     // answers 429
	Waited      float64 `json:"waited"`      // seconds that limits and pauses held requests back, summed over all
	Received    int64   `json:"blob_bytes_received"`
	Sent        int64   `json:"blob_bytes_sent"`
}

// A Status is what became of one image.
type Status string

// What became of an image.
const (
	StatusCopied      Status = "copied"      // written and visible under its name
	StatusSkipped     Status = "skipped"     // its name has this digest already
	StatusPlanned     Status = "planned"     // a dry run would copy it
	StatusFailed      Status = "failed"      // Step and Error say where and why
	StatusInterrupted Status = "interrupted" // the run ended before it did
)

// An ImageReport says what became of one image.
type ImageReport struct {
	Reference   string `json:"reference"`   // at the source, without digest: "quay.io/kolla/nova-api:1"
	Digest      Digest `json:"digest"`      // of the source's manifest or index; "" if it wasn't learnt, or there is none ([AnnotationSynthetic])
	Destination string `json:"destination"` // its name there
	Status      Status `json:"status"`
	// Written is the digest under the destination's name where it differs from
	// Digest, because platforms were chosen, filters changed it or layers were
	// compressed otherwise, or because the source has none.
	Written Digest `json:"written_digest,omitempty"`
	// Platforms are those that were chosen of an index, LeftOut the others.
	// Both are empty where the index was taken whole.
	Platforms []string `json:"platforms,omitempty"`
	LeftOut   []string `json:"left_out,omitempty"`
	Verified  bool     `json:"verified"` // the destination was checked after writing

	Layers       int   `json:"layers"`        // of all its manifests
	BytesMoved   int64 `json:"bytes_moved"`   // read from the source, as stored there; in a dry run what would be
	BytesShared  int64 `json:"bytes_shared"`  // saved by sharing: mounted, relayed or already there
	BlobsMoved   int   `json:"blobs_moved"`   // from the source
	BlobsMounted int   `json:"blobs_mounted"` // from another repository of the destination
	BlobsRelayed int   `json:"blobs_relayed"` // read at the destination, where a mount was refused
	BlobsPresent int   `json:"blobs_present"` // already there

	LayersFiltered      int `json:"layers_filtered,omitempty"`      // that filters made others of
	LayersRecoded       int `json:"layers_recoded,omitempty"`       // that were compressed otherwise, and hold the same
	AttestationsDropped int `json:"attestations_dropped,omitempty"` // about images that were changed

	Step    string  `json:"step,omitempty"`  // that failed: "fetch blob"
	Error   string  `json:"error,omitempty"` // the cause, with Step
	Seconds float64 `json:"seconds"`
}

// Undone reports whether a further run has to take the image up again.
func (r ImageReport) Undone() bool {
	return r.Status == StatusFailed || r.Status == StatusInterrupted
}

// Totals sums a run up. Bytes and blobs that images moved before they failed count.
type Totals struct {
	Images      int     `json:"images"` // handed out by the listing
	Copied      int     `json:"copied"`
	Skipped     int     `json:"skipped"`
	Planned     int     `json:"planned"`
	Failed      int     `json:"failed"`
	Interrupted int     `json:"interrupted"`
	Verified    int     `json:"verified"`
	Rewritten   int     `json:"rewritten"` // copied or planned with another digest than the source's, which has one
	LeftOut     int     `json:"left_out"`  // images of which platforms were left out
	Layers      int     `json:"layers"`
	BytesMoved  int64   `json:"bytes_moved"`
	BytesShared int64   `json:"bytes_shared"`
	Signatures  int     `json:"signatures_not_copied"` // the listing's companions
	Hidden      int     `json:"repositories_not_visible"`
	Seconds     float64 `json:"seconds"`
}

// A CreatedRepository is one that a run had to make at the destination.
type CreatedRepository struct {
	Repository string `json:"repository"` // host/path
	Visibility string `json:"visibility"` // "public", "private", or "" if the place doesn't say
}

// A Creator is a [Target] that makes repositories as it needs them.
type Creator interface {
	// Created lists them, sorted by name. It is complete after Finish.
	Created() []CreatedRepository
}
