package filter

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/quaymaster/quaymaster/internal/fnmatch"
	"github.com/quaymaster/quaymaster/oci"
)

// A Matcher says which names in a layer are looked for. It is safe for
// concurrent use.
type Matcher struct {
	globs []string       // one of which must match
	re    *regexp.Regexp // instead of globs
	id    string
}

// NewMatcher makes a matcher of pattern. A glob is fnmatch's, where * also
// crosses /, and must match a whole path or its last part. A regular expression
// (Go's, RE2) may match anywhere in a path. Both count paths from the root
// without a slash; a glob may have one.
//
// The error matches [oci.ErrUsage].
func NewMatcher(pattern string, regex bool) (*Matcher, error) {
	if pattern == "" {
		return nil, oci.Usage("search: the pattern is empty")
	}
	if regex {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, oci.Usage(fmt.Sprintf("search: %q is no regular expression: %v", pattern, err))
		}
		return &Matcher{re: re, id: "regex=" + pattern}, nil
	}
	m := &Matcher{globs: []string{pattern}, id: "pattern=" + pattern}
	anchored := strings.TrimLeft(pattern, "/")
	if anchored != pattern && anchored != "" {
		m.globs = append(m.globs, anchored)
	}
	// Behind any folders, and behind none.
	if rest, ok := strings.CutPrefix(anchored, "**/"); ok && rest != "" {
		m.globs = append(m.globs, rest)
	}
	return m, nil
}

// Match reports whether name, as it is in a tar, is looked for.
func (m *Matcher) Match(name string) bool {
	name = strings.TrimRight(name, "/")
	p := clean(name)
	if m.re != nil {
		return m.re.MatchString(name) || p != name && m.re.MatchString(p)
	}
	base := path.Base(p)
	for _, g := range m.globs {
		if fnmatch.Match(g, name) || fnmatch.Match(g, p) || fnmatch.Match(g, base) {
			return true
		}
	}
	return false
}
