package index

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// pubtools gives raw, which is valid JSON, as Python's json.dumps(sort_keys=True,
// indent=4) writes what it reads: members by code points, everything but printable
// ASCII escaped. Numbers stay as they are spelt. It stops soon behind limit bytes:
// indenting may make a hundred times as much of raw.
//
// Source: Python's json module (3.11): encoder.py.
func pubtools(raw []byte, limit int) []byte {
	w := writer{in: raw, indent: 4, limit: limit}
	w.value(0)
	return w.out.Bytes()
}

// spelling gives the value raw, which is valid JSON, in its one spelling: as pubtools
// does, in one line. It serves to compare.
func spelling(raw []byte) string {
	w := writer{in: raw, limit: math.MaxInt}
	w.value(0)
	return w.out.String()
}

// A writer is at a value of in, which is valid JSON.
type writer struct {
	in     []byte
	out    bytes.Buffer
	indent int // 0: all in one line
	limit  int // of out
}

// space skips white space.
func (w *writer) space() { w.in = bytes.TrimLeft(w.in, " \t\r\n") }

// value writes the next value, depth objects and arrays deep.
func (w *writer) value(depth int) {
	w.space()
	switch w.in[0] {
	case '{':
		w.object(depth + 1)
	case '[':
		w.array(depth + 1)
	case '"':
		escape(&w.out, w.text())
	default:
		n := bytes.IndexAny(w.in, ",]} \t\r\n")
		if n < 0 {
			n = len(w.in)
		}
		w.out.Write(w.in[:n])
		w.in = w.in[n:]
	}
}

// more reports whether a member or an element follows, after the first or in an empty
// one the bracket is behind.
func (w *writer) more(end byte) bool {
	w.space()
	switch w.in[0] {
	case end:
		w.in = w.in[1:]
		return false
	case ',':
		w.in = w.in[1:]
	}
	w.space()
	return true
}

// line begins a line. Behind the limit nobody looks at what there is.
func (w *writer) line(depth int) {
	if w.indent > 0 && w.out.Len() <= w.limit {
		w.out.WriteByte('\n')
		w.out.WriteString(strings.Repeat(" ", depth*w.indent))
	}
}

func (w *writer) array(depth int) {
	w.in = w.in[1:]
	w.out.WriteByte('[')
	n := 0
	for ; w.more(']'); n++ {
		if n > 0 {
			w.out.WriteByte(',')
		}
		w.line(depth)
		w.value(depth)
	}
	if n > 0 {
		w.line(depth - 1)
	}
	w.out.WriteByte(']')
}

func (w *writer) object(depth int) {
	type member struct {
		key      []rune
		from, to int // in out
	}
	var members []member
	w.in = w.in[1:]
	w.out.WriteByte('{')
	start := w.out.Len()
	for w.more('}') {
		if len(members) > 0 {
			w.out.WriteByte(',')
		}
		m := member{from: w.out.Len()}
		w.line(depth)
		m.key = w.text()
		escape(&w.out, m.key)
		w.out.WriteString(": ")
		w.space()
		w.in = w.in[1:] // the colon
		w.value(depth)
		m.to = w.out.Len()
		members = append(members, m)
	}
	if byKey := func(a, b member) int { return slices.Compare(a.key, b.key) }; !slices.IsSortedFunc(members, byKey) {
		slices.SortFunc(members, byKey)
		was := bytes.Clone(w.out.Bytes()[start:])
		w.out.Truncate(start)
		for i, m := range members {
			if i > 0 {
				w.out.WriteByte(',')
			}
			w.out.Write(was[m.from-start : m.to-start])
		}
	}
	if len(members) > 0 {
		w.line(depth - 1)
	}
	w.out.WriteByte('}')
}

// text reads a string: its code points, and halves of surrogate pairs that stand
// alone, which Python keeps and Go's strings can't hold.
func (w *writer) text() []rune {
	var out []rune
	w.in = w.in[1:]
	for {
		r, n := utf8.DecodeRune(w.in)
		w.in = w.in[n:]
		switch r {
		case '"':
			return out
		case '\\':
			r = w.escaped()
		}
		if last := len(out) - 1; last >= 0 && utf16.IsSurrogate(r) {
			if whole := utf16.DecodeRune(out[last], r); whole != utf8.RuneError {
				out[last] = whole
				continue
			}
		}
		out = append(out, r)
	}
}

// escaped reads what is behind a backslash.
func (w *writer) escaped() rune {
	c := w.in[0]
	w.in = w.in[1:]
	if i := strings.IndexByte("bfnrt", c); i >= 0 {
		return rune("\b\f\n\r\t"[i])
	}
	if c != 'u' {
		return rune(c)
	}
	var r rune
	for _, h := range w.in[:4] {
		r = r<<4 | rune(h&0xf)
		if h > '9' {
			r += 9
		}
	}
	w.in = w.in[4:]
	return r
}

// escape writes a string.
func escape(b *bytes.Buffer, text []rune) {
	b.WriteByte('"')
	for _, r := range text {
		switch i := strings.IndexRune("\b\f\n\r\t\"\\", r); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(`bfnrt"\`[i])
		case r >= ' ' && r <= '~':
			b.WriteByte(byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}
