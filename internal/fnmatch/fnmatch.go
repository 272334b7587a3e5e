// Package fnmatch matches names by shell globs as Python's fnmatchcase does,
// which is what users of occystrap write for repositories, tags and, where they
// ask for it, paths. Globs that know directories are doublestar's.
package fnmatch

import (
	"strings"
	"unicode/utf8"
)

// Match reports whether name is what pattern stands for: * is any run of
// characters, / and leading dots included; ? is any one; [seq] is one of seq,
// where a-z is a range, [!seq] one not of it. A ] that comes first is part of
// seq, a [ that is never closed is itself, and there are no braces and no
// escapes. Case matters.
//
// Characters are UTF-8's; a byte that is none of it is a character of its own,
// equal to itself alone. The time is len(pattern)*len(name) at worst.
func Match(pattern, name string) bool {
	// One point to go back to is enough: a later * can do all that an
	// earlier one could.
	star, mark := -1, 0
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if p < len(pattern) {
			c, size := char(name[n:])
			if ok, width := matchOne(pattern[p:], c); ok {
				p, n = p+width, n+size
				continue
			}
		}
		if star < 0 {
			return false
		}
		_, size := char(name[mark:])
		mark += size
		p, n = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// char gives the first character of s, which isn't empty, and its width. Bytes
// that are no UTF-8 become lone surrogates, which UTF-8 doesn't have.
func char(s string) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 {
		return 0xdc00 + rune(s[0]), 1
	}
	return r, size
}

// matchOne matches c against the first element of pattern, which is no *, and
// gives the element's width in bytes.
func matchOne(pattern string, c rune) (ok bool, width int) {
	switch pattern[0] {
	case '?':
		return true, 1
	case '[':
		if seq, not, width, closed := class(pattern); closed {
			return inClass(seq, c) != not, width
		}
	}
	r, width := char(pattern)
	return r == c, width
}

// class reads [seq] or [!seq] at the start of pattern.
func class(pattern string) (seq string, not bool, width int, closed bool) {
	start := 1
	if strings.HasPrefix(pattern[start:], "!") {
		start, not = start+1, true
	}
	from := start
	if strings.HasPrefix(pattern[from:], "]") {
		from++
	}
	end := strings.IndexByte(pattern[from:], ']')
	if end < 0 {
		return "", false, 0, false
	}
	return pattern[start : from+end], not, from + end + 1, true
}

// inClass reports whether c is in seq. A range that runs backwards is empty; a
// dash at either end is itself.
func inClass(seq string, c rune) bool {
	for seq != "" {
		low, width := char(seq)
		seq = seq[width:]
		high := low
		if len(seq) > 1 && seq[0] == '-' {
			high, width = char(seq[1:])
			seq = seq[1+width:]
		}
		if low <= c && c <= high {
			return true
		}
	}
	return false
}

// IsGlob reports whether s has an element that stands for more than itself.
func IsGlob(s string) bool { return strings.ContainsAny(s, "*?[") }
