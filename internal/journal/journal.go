// Package journal keeps what is needed to undo a run: JSON lines, in a file that
// only its owner can read, each on the disk before what it announces is done.
//
// A journal begins with a header. Content is kept once for each digest, a snapshot
// says what a tag meant, an intent is written before each write and done after it.
// A process may die at any byte: the last line may be torn, and is then as if it
// had not been written, which is right for every kind of line.
//
// [Create] and [New] begin a journal, [Open] reads one that a run left. Either way
// it is a [Journal], which knows what was written and takes further lines. What it
// holds in memory is one short entry for each tag: content is read again from the
// file when it is needed.
//
// The package makes no request and knows no registry; package publish decides what
// is done with what stands here.
package journal

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// Version is the version of the format. A journal of another one isn't read.
const Version = 1

// maxTags bounds the tags of one journal, so that a file that names tags for ever
// doesn't fill the memory.
const maxTags = 1 << 20

// A Header is the first line of a journal.
type Header struct {
	Tool    string    // program and version
	Command string    // the verb: "push"
	Run     string    // the run's name
	Started time.Time // UTC
}

// A State is what a tag meant.
type State struct {
	Absent    bool // there was none; the rest is then zero
	Digest    oci.Digest
	MediaType oci.MediaType
	Partial   bool      // it lists what wasn't there, so it can't be restored whole
	Expires   time.Time // UTC, by Quay; zero for never, or where nobody was asked
}

// An Action is what an intent announces.
type Action string

// The actions.
const (
	Put    Action = "put"
	Delete Action = "delete"
)

// An Outcome is what a rollback did with a tag.
type Outcome string

// The outcomes.
const (
	Restored  Outcome = "restored"  // it has its digest again
	Deleted   Outcome = "deleted"   // it is gone again
	Unchanged Outcome = "unchanged" // it was as it had been
	Conflict  Outcome = "conflict"  // somebody else moved it: left alone
	Failed    Outcome = "failed"
)

// A Tag is what a journal knows of a tag that its run wrote, or meant to write.
type Tag struct {
	Ref     oci.Ref      // with a tag
	Before  State        // what it meant before the run's first write
	Wrote   []oci.Digest // what it was to mean, in the order of the writes
	Deleted bool         // it was to be deleted, by one of them
	Open    bool         // one of the writes was announced, and not said to be done
	Last    int          // number of the last intent
	Outcome Outcome      // of the last rollback that spoke of it; "" if none did
}

// A Journal is one run's journal. It is safe for concurrent use.
type Journal struct {
	header Header
	file   file
	path   string

	syncing sync.Mutex // held while the file is synced; taken before mu
	synced  int64      // bytes that are on the disk for certain

	mu      sync.Mutex
	size    int64 // bytes of whole lines
	broken  error // of a write: what comes after a torn line would be lost
	tags    map[string]*entry
	intents []*intent
	content map[oci.Digest]span
	status  string // of the last end
}

// An entry is what is held of a tag.
type entry struct {
	ref     string
	before  State
	writes  []*intent
	outcome Outcome
}

// An intent is one write that was announced.
type intent struct {
	entry  *entry
	digest oci.Digest // "" deletes
	n      int
	done   bool
}

// A span is where a line stands in the file.
type span struct{ offset, length int64 }

// Header gives the first line.
func (j *Journal) Header() Header { return j.header }

// Path gives the file's name, "" for a journal in memory.
func (j *Journal) Path() string { return j.path }

// Status gives what the run, or the last rollback, said at its end; "" means that
// there was none: it is at work, or was killed.
func (j *Journal) Status() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}

// Intents gives how many writes were announced, and how many of them are done.
func (j *Journal) Intents() (all, done int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, i := range j.intents {
		if i.done {
			done++
		}
	}
	return len(j.intents), done
}

// Written gives the tags that have an intent, that with the last one first: the
// order in which they are undone.
func (j *Journal) Written() []Tag {
	j.mu.Lock()
	defer j.mu.Unlock()
	var tags []Tag
	seen := map[*entry]bool{}
	for k := len(j.intents) - 1; k >= 0; k-- {
		e := j.intents[k].entry
		if seen[e] {
			continue
		}
		seen[e] = true
		ref, _ := oci.ParseRef(e.ref, "") // it was checked when it came in
		t := Tag{Ref: ref, Before: e.before, Last: j.intents[k].n, Outcome: e.outcome}
		for _, w := range e.writes {
			t.Open = t.Open || !w.done
			if w.digest == "" {
				t.Deleted = true
			} else {
				t.Wrote = append(t.Wrote, w.digest)
			}
		}
		tags = append(tags, t)
	}
	return tags
}

// Content gives the bytes of d, checked against it. It returns an error matching
// [oci.ErrNotFound] if the journal has none.
func (j *Journal) Content(d oci.Digest) ([]byte, error) {
	j.mu.Lock()
	at, ok := j.content[d]
	j.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("the journal holds no %s: %w", d, oci.ErrNotFound)
	}
	raw := make([]byte, at.length)
	if n, err := j.file.ReadAt(raw, at.offset); n < len(raw) {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	// The file may have changed since it was read.
	l, err := parseLine(raw)
	if err != nil || l.Kind != kindContent || l.Digest != d {
		return nil, errors.Join(fmt.Errorf("%w: the journal has changed, %s is not where it was", oci.ErrInvalid, d), err)
	}
	return l.Raw, nil
}

// Close closes the file. What was written stays.
func (j *Journal) Close() error { return j.file.Close() }
