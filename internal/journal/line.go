package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/quaymaster/quaymaster/oci"
)

// The kinds of lines.
const (
	kindHeader   = "header"
	kindContent  = "content"
	kindSnapshot = "snapshot"
	kindIntent   = "intent"
	kindDone     = "done"
	kindUndone   = "undone"
	kindEnd      = "end"
)

// maxLine bounds a line, in bytes: the largest manifest in base64, and what stands
// around it.
const maxLine = oci.MaxManifestSize/3*4 + 4096

// maxWords bounds a name that only people read, in bytes.
const maxWords = 200

// A line is one line of the file. Which fields it has depends on its kind.
type line struct {
	Kind      string        `json:"kind"`
	Version   int           `json:"version,omitempty"`
	Tool      string        `json:"tool,omitempty"`
	Command   string        `json:"command,omitempty"`
	Run       string        `json:"run,omitempty"`
	Started   *time.Time    `json:"started,omitempty"`
	N         int           `json:"n,omitempty"`
	Ref       string        `json:"ref,omitempty"`
	Action    Action        `json:"action,omitempty"`
	Absent    bool          `json:"absent,omitempty"`
	Digest    oci.Digest    `json:"digest,omitempty"`
	MediaType oci.MediaType `json:"media_type,omitempty"`
	Partial   bool          `json:"partial,omitempty"`
	Expires   *time.Time    `json:"expires,omitempty"`
	Outcome   Outcome       `json:"outcome,omitempty"`
	Status    string        `json:"status,omitempty"`
	Raw       []byte        `json:"raw,omitempty"`
}

// Each kind with the fields that it has. What is read is held against what these
// make of it, so that a line has one meaning for everyone.

func headerLine(h Header) line {
	return line{Kind: kindHeader, Version: Version, Tool: h.Tool, Command: h.Command, Run: h.Run, Started: instant(h.Started)}
}

func contentLine(d oci.Digest, raw []byte) line {
	return line{Kind: kindContent, Digest: d, Raw: raw}
}

func snapshotLine(ref string, s State) line {
	if s.Absent {
		s = State{Absent: true}
	}
	return line{Kind: kindSnapshot, Ref: ref, Absent: s.Absent, Digest: s.Digest, MediaType: s.MediaType, Partial: s.Partial, Expires: instant(s.Expires)}
}

func intentLine(n int, ref string, a Action, d oci.Digest, expires time.Time) line {
	return line{Kind: kindIntent, N: n, Ref: ref, Action: a, Digest: d, Expires: instant(expires)}
}

func doneLine(n int) line { return line{Kind: kindDone, N: n} }

func undoneLine(ref string, o Outcome) line { return line{Kind: kindUndone, Ref: ref, Outcome: o} }

func endLine(status string) line { return line{Kind: kindEnd, Status: status} }

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(0)
	return &t
}

func (l line) expires() time.Time {
	if l.Expires == nil {
		return time.Time{}
	}
	return *l.Expires
}

// bytes gives the line as it is written, its end included.
func (l line) bytes() ([]byte, error) {
	raw, err := json.Marshal(l)
	return append(raw, '\n'), err
}

// parseLine reads a line, without its end, and checks what can be checked of it
// alone. Errors match [oci.ErrInvalid].
func parseLine(raw []byte) (line, error) {
	var l line
	fail := func(format string, args ...any) (line, error) {
		return line{}, fmt.Errorf("%w: %s", oci.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return fail("no line of a journal: %v", err)
	}
	var want line
	switch l.Kind {
	case kindHeader:
		if l.Version != Version {
			return fail("a journal of version %d; this program reads version %d", l.Version, Version)
		}
		if l.Started == nil || !plain(l.Tool) || !plain(l.Command) || !plain(l.Run) {
			return fail("a header that no run wrote")
		}
		want = headerLine(Header{l.Tool, l.Command, l.Run, *l.Started})
	case kindContent:
		if err := checkDigest(l.Digest, l.Raw); err != nil {
			return fail("%v", err)
		}
		want = contentLine(l.Digest, l.Raw)
	case kindSnapshot:
		if err := checkState(l.Absent, l.Digest, l.MediaType); err != nil {
			return fail("%v", err)
		}
		want = snapshotLine(l.Ref, State{l.Absent, l.Digest, l.MediaType, l.Partial, l.expires()})
	case kindIntent:
		if l.N < 1 || l.Action != Put && l.Action != Delete || (l.Action == Put) != (l.Digest != "") {
			return fail("an intent without a number, or to do what can't be done")
		}
		if err := oci.ValidDigest(l.Digest); l.Digest != "" && err != nil {
			return fail("%v", err)
		}
		want = intentLine(l.N, l.Ref, l.Action, l.Digest, l.expires())
	case kindDone:
		if l.N < 1 {
			return fail("done without a number")
		}
		want = doneLine(l.N)
	case kindUndone:
		switch l.Outcome {
		case Restored, Deleted, Unchanged, Conflict, Failed:
		default:
			return fail("unknown outcome %.20q", l.Outcome)
		}
		want = undoneLine(l.Ref, l.Outcome)
	case kindEnd:
		if !plain(l.Status) {
			return fail("an end that no run wrote")
		}
		want = endLine(l.Status)
	default:
		return fail("unknown kind %.20q", l.Kind)
	}
	if hasRef := l.Kind == kindSnapshot || l.Kind == kindIntent || l.Kind == kindUndone; hasRef {
		if err := checkRef(l.Ref); err != nil {
			return fail("%v", err)
		}
	}
	// Unknown keys, keys that stand twice or are written otherwise, fields of
	// another kind: none of them survives being written again.
	if again, err := want.bytes(); err != nil || !bytes.Equal(again[:len(again)-1], raw) {
		return fail("a line of kind %s that no run wrote", l.Kind)
	}
	return l, nil
}

// checkRef holds ref to be host/repository:tag, and nothing else.
func checkRef(ref string) error {
	r, err := oci.ParseRef(ref, "")
	if err != nil {
		return err
	}
	if r.Tag == "" || r.Digest != "" || r.String() != ref {
		return fmt.Errorf("%q is not written host/repository:tag", ref)
	}
	return nil
}

func checkDigest(d oci.Digest, raw []byte) error {
	if err := oci.ValidDigest(d); err != nil {
		return err
	}
	if len(raw) == 0 || len(raw) > oci.MaxManifestSize {
		return fmt.Errorf("a manifest of %d bytes", len(raw))
	}
	if got := d.Algorithm().FromBytes(raw); got != d {
		return fmt.Errorf("%w: the bytes of %s are %s", oci.ErrDigestMismatch, d, got)
	}
	return nil
}

func checkState(absent bool, d oci.Digest, mt oci.MediaType) error {
	if absent {
		if d != "" || mt != "" {
			return fmt.Errorf("a tag that was absent with digest %.20q", d)
		}
		return nil
	}
	if err := oci.ValidDigest(d); err != nil {
		return err
	}
	if !oci.IsManifestType(mt) {
		return fmt.Errorf("%.80q is no type of a manifest", mt)
	}
	return nil
}

// plain reports whether s is fit to be shown.
func plain(s string) bool {
	return s != "" && len(s) <= maxWords && !strings.ContainsFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsPrint(r)
	})
}
