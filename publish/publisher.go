package publish

import (
	"log/slog"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A Publisher changes what tags mean. Source.HTTP and Dest.HTTP must be set; the
// zero value of the rest is ready. Its methods may be called one after another.
type Publisher struct {
	// Source is what sources are read with, Dest what destinations are read and
	// written with. Of a registry whose name is Dest.QuayHost, or quay.io where
	// that is "", Dest.APIToken is a token of its API.
	Source, Dest backend.Env

	// Images is how many items are worked on at once. 0 means 3.
	Images int
	// Blobs is how many blobs are transferred, and how many questions asked, at
	// once. 0 means 4.
	Blobs int

	// DryRun changes nothing; the report is the plan.
	DryRun bool
	// Yes says that the user has agreed to what [Publisher.Clear] and
	// [Publisher.Remove] delete.
	Yes bool

	// Journal is the path of the run's journal. "" keeps it in memory alone: then
	// nobody can undo the run after its process was killed.
	Journal string
	// Rollback says what a run that fails does with what it changed. "" is Auto for
	// what gives tags, and Never for what takes them away or brings them back:
	// [Publisher.Untag], [Publisher.Clear], [Publisher.Remove], [Publisher.Restore].
	Rollback Policy
	// Scope says of how much, where a run has several items. "" is All.
	Scope Scope
	// UndoLimit bounds the time of an automatic rollback. 0 means 5 minutes.
	UndoLimit time.Duration
	// GuardOld keeps what a tag meant under a tag of its own, until the run has
	// succeeded, so that no registry collects it meanwhile.
	GuardOld bool
	// AllowDigestDelete lets a tag be deleted by its digest, where the registry
	// can do no other and no other tag has that digest.
	AllowDigestDelete bool
	// Companions says whether signatures, attestations and referrers travel with
	// what is copied into another repository.
	Companions bool

	// Tool names the program in the journal: "quaymaster v1".
	Tool string
	// Undoing is called before an automatic rollback begins, and what it returns
	// once that is over. nil: nobody is.
	Undoing func() (done func())
	// Events takes progress. nil discards it.
	Events func(Event)
	// Warn takes one line that the user should see. nil discards it.
	Warn func(string)
	// Log takes details. nil discards them.
	Log *slog.Logger
}

// A Policy is what happens to the changes of a run that fails.
type Policy string

// The policies.
const (
	Auto  Policy = "auto"  // they are taken back
	Never Policy = "never" // they stay; the journal can take them back later
)

// A Scope is how much of a run is taken back if an item of it fails.
type Scope string

// The scopes.
const (
	All     Scope = "all"  // every change of the run
	OneItem Scope = "item" // those of the items that failed
)

// quay gives the client of host's API, nil where host is no Quay or there is no
// token for it: whoever has none is a stranger to the API, and it answers
// strangers with less than there is.
func (p *Publisher) quay(host string) *quay.Client {
	home := p.Dest.QuayHost
	if home == "" {
		home = quay.DefaultHost
	}
	if host != home || p.Dest.APIToken == "" {
		return nil
	}
	return &quay.Client{Host: host, Token: p.Dest.APIToken, HTTP: p.Dest.HTTP, PlainHTTP: p.Dest.PlainHTTP}
}

// questions is how many questions are asked at once.
func (p *Publisher) questions() int {
	if p.Blobs > 0 {
		return p.Blobs
	}
	return 4
}

func (p *Publisher) warn(line string) {
	if p.Warn != nil {
		p.Warn(line)
	}
}

// An Event tells progress. Events come one at a time; who takes them should only
// note them.
type Event struct {
	Kind EventKind
	Item int     // from 0; -1 for what is no item's
	Ref  oci.Ref // the tag, of Changed
	// Change is set for Changed: what became of a tag.
	Change *Change
	Bytes  int64 // of Moved
	// How far the run is, in tags.
	Done, All int
}

// An EventKind says what an [Event] tells.
type EventKind int

const (
	// Moved: Bytes more were read from the source.
	Moved EventKind = iota
	// Changed: work on a tag is over.
	Changed
)
