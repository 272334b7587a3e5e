package filter

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

var search = Kind{
	Name: "search",
	Help: "reports the files whose names match, and changes nothing",
	Options: map[string]string{
		"pattern":         "glob on the whole path or its last part",
		"regex":           "true takes pattern as a regular expression on the path",
		"script-friendly": "true reports a line each: IMAGE:TAG:LAYER:PATH",
	},
	Required: []string{"pattern"},
	New: func(o Options, env Env) (Filter, error) {
		pattern, _, err := o.One("pattern")
		if err != nil {
			return Filter{}, err
		}
		regex, err := o.Bool("regex")
		if err != nil {
			return Filter{}, err
		}
		script, err := o.Bool("script-friendly")
		if err != nil {
			return Filter{}, err
		}
		m, err := NewMatcher(pattern, regex)
		if err != nil {
			return Filter{}, err
		}
		x := &searching{matcher: m, script: script, found: env.Found, layers: map[oci.Digest][]Match{}}
		return Filter{Entry: x, Observer: x}, nil
	},
}

// Findings are what a search found in one image.
type Findings struct {
	Image          *oci.Image
	ScriptFriendly bool // how the user wants it, see [Findings.Text]
	Layers         []LayerFindings
}

// LayerFindings are the matches in one layer; those without any are left out.
type LayerFindings struct {
	Layer   Layer
	Index   int // 0 is the lowest layer
	Matches []Match
}

// A Match is an entry that was looked for.
type Match struct {
	Name string // as in the tar, without a trailing slash
	Type byte   // of [tar.Header]
	Size int64  // of a file's content, else 0
	Link string // target of a symbolic or hard link
}

// searching looks through layers, each of which many images may have, and says
// what it saw as each image ends.
type searching struct {
	matcher *Matcher
	script  bool
	found   func(Findings) error

	mu     sync.Mutex
	layers map[oci.Digest][]Match // by the source's digest, after a pass that succeeded
}

func (x *searching) ID() string { return newID("search", 1).add("for", x.matcher.id).String() }

func (x *searching) Wrap(layer oci.Descriptor, next oci.Sink) oci.Sink {
	return &searchPass{x: x, layer: layer.Digest, next: next}
}

type searchPass struct {
	x       *searching
	layer   oci.Digest
	next    oci.Sink
	matches []Match
}

func (p *searchPass) Put(e *oci.Entry) error {
	if h := e.Header; p.x.matcher.Match(h.Name) {
		m := Match{Name: strings.TrimRight(h.Name, "/"), Type: h.Typeflag, Link: h.Linkname}
		if m.Kind() == "file" {
			m.Size = h.Size
		}
		p.matches = append(p.matches, m)
	}
	return p.next.Put(e)
}

// Learn implements [oci.Learner].
func (p *searchPass) Learn(layer oci.Digest) { p.layer = layer }

// Close keeps the matches, in place of those of an earlier pass over the layer.
func (p *searchPass) Close() error {
	if err := p.next.Close(); err != nil {
		return err
	}
	p.x.mu.Lock()
	defer p.x.mu.Unlock()
	p.x.layers[p.layer] = p.matches
	return nil
}

// Observe reports what the layers of an image had.
func (x *searching) Observe(_ context.Context, o Outcome) error {
	f := Findings{Image: o.Image, ScriptFriendly: x.script}
	for i, l := range o.Layers {
		x.mu.Lock()
		matches, ok := x.layers[l.Before.Digest]
		x.mu.Unlock()
		if !ok {
			return &oci.Error{Op: "search layer", Ref: o.Image.Ref.String(), Desc: oci.Descriptor{Digest: l.Before.Digest},
				Err: fmt.Errorf("%w: it was not read", oci.ErrIncomplete)}
		}
		if len(matches) > 0 {
			f.Layers = append(f.Layers, LayerFindings{l, i, matches})
		}
	}
	if x.found == nil {
		return nil
	}
	return x.found(f)
}

// Kind says what the entry is: "file", "directory", "symlink", "hardlink",
// "character device", "block device", "fifo" or "unknown".
func (m Match) Kind() string { return oci.TypeName(m.Type) }

// String gives "etc/motd (file, 12 bytes)", control characters escaped.
func (m Match) String() string {
	switch kind := m.Kind(); kind {
	case "file":
		return fmt.Sprintf("%s (file, %d bytes)", printable(m.Name), m.Size)
	case "symlink", "hardlink":
		return fmt.Sprintf("%s -> %s (%s)", printable(m.Name), printable(m.Link), kind)
	default:
		return fmt.Sprintf("%s (%s)", printable(m.Name), kind)
	}
}

// Text gives the findings as occystrap writes them: blocks by layer and a count,
// or if they are to be friendly to scripts a line each and nothing else.
func (f Findings) Text() string {
	var b strings.Builder
	total := 0
	for _, l := range f.Layers {
		total += len(l.Matches)
		if f.ScriptFriendly {
			for _, m := range l.Matches {
				fmt.Fprintf(&b, "%s:%s:%s\n", nameOf(f.Image.Ref), l.Layer.Before.Digest.Encoded(), printable(m.Name))
			}
			continue
		}
		fmt.Fprintf(&b, "Layer: %s\n", l.Layer.Before.Digest.Encoded())
		for _, m := range l.Matches {
			fmt.Fprintf(&b, "  %s\n", m)
		}
		b.WriteString("\n")
	}
	switch {
	case f.ScriptFriendly:
	case total == 0:
		b.WriteString("No matches found.\n")
	default:
		matches, layers := "matches", "layers"
		if total == 1 {
			matches = "match"
		}
		if len(f.Layers) == 1 {
			layers = "layer"
		}
		fmt.Fprintf(&b, "Found %d %s in %d %s.\n", total, matches, len(f.Layers), layers)
	}
	return b.String()
}

// nameOf gives an image's name without its registry, as occystrap has it.
func nameOf(r oci.Ref) string {
	r.Registry = ""
	return r.Tagged()
}

// printable escapes what a terminal would obey, or take for the end of a line.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		case r == 0xfffd && s[i] != 0xef: // no UTF-8
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
