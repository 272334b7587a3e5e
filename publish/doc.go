// Package publish gives images their public tags and takes them back: push, tag,
// merge, untag, clear, remove, and rollback of all of it.
//
// A [Publisher] does the verbs. Each is a run (run.go): everything is read first,
// the state of every tag that will change is kept in a journal (snapshot.go),
// content is brought by its digests (copy.go, on package bulk), and tags move last,
// one journaled write each (write.go). A run that fails, or is interrupted, puts
// back what it changed (undo.go); [Publisher.Undo] does that later, from the
// journal.
//
// How lists are merged is package index's; which signatures and attestations an
// image has is package companion's. Quay's API is used for what only it can do:
// deleting a tag and nothing else, expiry, history. Every other registry is spoken
// to by the distribution protocol.
package publish
