package filter

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/quaymaster/quaymaster/oci"
)

var exclude = Kind{
	Name: "exclude",
	Help: "drops files by patterns",
	Options: map[string]string{
		"pattern": "path with * ? [a-c] {a,b} and ** for any folders; several by commas, or given again",
		"compat":  "occystrap: * crosses /, names as they are in the tar, a folder's children stay",
	},
	Required: []string{"pattern"},
	New: func(o Options, _ Env) (Filter, error) {
		compat, ok, err := o.One("compat")
		if err != nil {
			return Filter{}, err
		}
		patterns := o.List("pattern")
		if ok {
			if compat != "occystrap" {
				return Filter{}, oci.Usage(fmt.Sprintf("exclude: compat is occystrap, not %q", compat))
			}
			return Filter{Entry: excludeNames(patterns), Changes: true}, nil
		}
		x, err := Exclude(patterns...)
		return Filter{Entry: x, Changes: true}, err
	},
}

// Exclude drops the entries whose path, or whose parent's path, matches one of
// patterns (see [doublestar.Match]). Whiteouts of a dropped path are dropped
// too, as lower layers lose that path by the same patterns; so are the opaque
// markers of a dropped directory. Paths and patterns count from the root, with
// a leading slash or without. The filter is an [oci.Dropper].
//
// The error matches [oci.ErrUsage] if a pattern is malformed, or means the root.
func Exclude(patterns ...string) (oci.EntryFilter, error) {
	x := make(excludePaths, 0, len(patterns))
	for _, p := range patterns {
		q := strings.Trim(strings.TrimPrefix(p, "./"), "/")
		if q == "" || q == "." {
			return nil, oci.Usage(fmt.Sprintf("exclude: the pattern %q means the root; ** drops all that is in it", p))
		}
		if !doublestar.ValidatePattern(q) {
			return nil, oci.Usage(fmt.Sprintf("exclude: the pattern %q is malformed", p))
		}
		x = append(x, q)
	}
	return x, nil
}

type excludePaths []string

func (x excludePaths) ID() string { return newID("exclude", 1).add("pattern", x...).String() }

// Drops reports whether path, or a directory that it is in, matches.
func (x excludePaths) Drops(path string) bool {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' && x.match(path[:i]) {
			return true
		}
	}
	return path != "" && x.match(path)
}

func (x excludePaths) match(path string) bool {
	for _, p := range x {
		if doublestar.MatchUnvalidated(p, path) {
			return true
		}
	}
	return false
}

func (x excludePaths) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink {
	// Entries of a directory come together, and its answer is theirs too.
	dir, dropped := "", false
	return sink{next, func(e *oci.Entry) error {
		p := target(clean(e.Header.Name))
		parent := ""
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			parent = p[:i]
		}
		if parent != dir {
			dir, dropped = parent, x.Drops(parent)
		}
		if dropped || p != "" && x.match(p) {
			return nil // not passed on: dropped
		}
		return next.Put(e)
	}}
}

// excludeNames is exclude as occystrap has it: one entry at a time, by the name
// that is in the tar.
type excludeNames []string

func (x excludeNames) ID() string {
	return newID("exclude", 1).add("compat", "occystrap").add("pattern", x...).String()
}

func (x excludeNames) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink {
	return sink{next, func(e *oci.Entry) error {
		if matchAny(x, strings.TrimRight(e.Header.Name, "/")) {
			return nil // not passed on: dropped
		}
		return next.Put(e)
	}}
}

// Drops reports whether an entry for path is dropped under either of the names
// that tars give it.
func (x excludeNames) Drops(path string) bool { return matchAny(x, path) || matchAny(x, "./"+path) }
