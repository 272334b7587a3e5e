package blobcache

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	title = "quaymaster blob cache 1"
	// maxEntries bounds the blobs that are kept, some 150 bytes each in the file
	// and 52 in memory. Those that were used longest ago go first.
	maxEntries = 200_000
	// maxFileSize bounds what is read, in bytes, and maxLine a line of it.
	maxFileSize = 256 << 20
	maxLine     = 2 << 10
)

// A key is a sha256 digest; blobs of other algorithms aren't kept.
type key [sha256.Size]byte

func keyOf(d oci.Digest) (k key, ok bool) {
	h, found := strings.CutPrefix(string(d), "sha256:")
	if !found || len(h) != 2*len(k) {
		return k, false
	}
	_, err := hex.Decode(k[:], []byte(h))
	return k, err == nil
}

// A name is the place of a host or repository in [table.names].
type name uint32

const none = ^name(0)

// places are where a blob is; [none] where there are fewer.
type places [2]name

// An entry is one blob of one registry.
type entry struct {
	key  key
	host name
	at   places
	used uint32 // day
}

func (e entry) compare(o entry) int {
	return cmp.Or(bytes.Compare(e.key[:], o.key[:]), cmp.Compare(e.host, o.host))
}

// A table is the content of a file, or what of it is of one registry. It is a
// list and no map, since it may be long and a run has little memory.
type table struct {
	entries []entry
	names   []string
	byName  map[string]name
}

func newTable() *table { return &table{byName: map[string]name{}} }

// name gives the place of s, which is added if it is new.
func (t *table) name(s string) name {
	n, ok := t.byName[s]
	if !ok {
		n = name(len(t.names))
		s = strings.Clone(s) // not the line that it is from
		t.names, t.byName[s] = append(t.names, s), n
	}
	return n
}

func (t *table) sort() { slices.SortFunc(t.entries, entry.compare) }

// find gives the entry of k in a sorted table of one registry, nil if there is none.
func (t *table) find(k key) *entry {
	i, ok := slices.BinarySearchFunc(t.entries, k, func(e entry, k key) int { return bytes.Compare(e.key[:], k[:]) })
	if !ok {
		return nil
	}
	return &t.entries[i]
}

// read adds the lines of r that are of host, "" for all.
func (t *table) read(r io.Reader, host string) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			if lines.Text() != title {
				return fmt.Errorf("%w: it is no blob cache of version 1, and stays as it is", oci.ErrInvalid)
			}
			continue
		}
		if err := t.line(lines.Text(), host); err != nil {
			return fmt.Errorf("%w: it is damaged in line %d, and stays as it is: %w", oci.ErrInvalid, n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%w: it has a line that is too long, and stays as it is", oci.ErrInvalid)
	}
	return lines.Err()
}

// line adds one line: DIGEST DAY HOST REPOSITORY [REPOSITORY].
func (t *table) line(s, host string) error {
	digest, rest, _ := strings.Cut(s, " ")
	used, rest, _ := strings.Cut(rest, " ")
	registry, rest, _ := strings.Cut(rest, " ")
	if host != "" && registry != host && rest != "" {
		return nil // what is wrong with it shows when the file is written
	}
	first, second, two := strings.Cut(rest, " ")
	k, ok := keyOf(oci.Digest(digest))
	if !ok {
		return fmt.Errorf("%q is no sha256 digest", digest)
	}
	when, err := strconv.ParseUint(used, 10, 32)
	if err != nil {
		return err
	}
	if !oci.ValidHost(registry) || !oci.ValidRepository(first) || two && !oci.ValidRepository(second) {
		return fmt.Errorf("%q and %q are no host and repositories", registry, rest)
	}
	e := entry{key: k, host: t.name(registry), at: places{t.name(first), none}, used: uint32(when)}
	if two && second != first {
		e.at[1] = t.name(second)
	}
	t.entries = append(t.entries, e)
	return nil
}

// merge enters changed, of the registry host and with names in from, as used
// today, and reports whether that is worth a write.
func (t *table) merge(host string, from []string, changed map[key]places, today uint32) bool {
	t.sort()
	h, worth := t.name(host), false
	var added []entry
	for k, at := range changed {
		for i, r := range at {
			if r != none {
				at[i] = t.name(from[r])
			}
		}
		e := entry{key: k, host: h, at: at, used: today}
		if i, there := slices.BinarySearchFunc(t.entries, e, entry.compare); there {
			worth = worth || t.entries[i] != e
			t.entries[i] = e
		} else if at[0] != none {
			worth, added = true, append(added, e)
		}
	}
	t.entries = append(t.entries, added...)
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return e.at[0] == none })
	return worth
}

// trim keeps the n entries that were used last, and sorts them.
func (t *table) trim(n int) {
	if len(t.entries) > n {
		slices.SortFunc(t.entries, func(a, b entry) int { return cmp.Or(cmp.Compare(b.used, a.used), a.compare(b)) })
		t.entries = t.entries[:n]
	}
	t.sort()
}

func (t *table) write(w io.Writer) error {
	_, err := io.WriteString(w, title+"\n")
	for _, e := range t.entries {
		if err != nil {
			return err
		}
		second := ""
		if e.at[1] != none {
			second = " " + t.names[e.at[1]]
		}
		_, err = fmt.Fprintf(w, "sha256:%x %d %s %s%s\n", e.key, e.used, t.names[e.host], t.names[e.at[0]], second)
	}
	return err
}
