package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	// maxNesting bounds how deep a plan nests, in brackets and in columns of
	// indentation; plans need 8. The parser's time grows with its square, and
	// faster beyond.
	maxNesting = 100
	// maxKeys bounds the lines of one block, for the same reason.
	maxKeys = 10_000
	// maxNodes bounds the parts of a plan that are looked at. An alias counts as
	// what it stands for, so that few lines can't stand for very many.
	maxNodes = 2_000_000
	// maxAliases is how many aliases may stand for each other.
	maxAliases = 10
)

// yamlNodes gives the parts of one YAML document.
type yamlNodes struct {
	anchors map[string]ast.Node
	looked  int
}

// parseYAML reads the one document of raw; JSON is YAML as well.
func (r *planReader) parseYAML(raw []byte) ast.Node {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if len(raw) > maxPlan {
		r.fault(place{}, "more than %d MiB, which is the limit", maxPlan>>20)
		return nil
	}
	if json.Valid(raw) {
		// A tab can't be part of a string then, and YAML has no tabs in front of keys.
		raw = bytes.ReplaceAll(raw, []byte("\t"), []byte(" "))
	}
	if at, why := unfit(raw); why != "" {
		r.fault(at, "%s", why)
		return nil
	}
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		var e yaml.Error
		if !errors.As(err, &e) || e.GetToken() == nil {
			r.fault(place{}, "%s", firstLine(err.Error()))
			return nil
		}
		p := e.GetToken().Position
		r.fault(place{p.Line, p.Column}, "%s", firstLine(e.GetMessage()))
		return nil
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.NullType {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		r.fault(place{}, "it is empty")
		return nil
	case 1:
	default:
		r.fault(placeOf(bodies[1]), "a second document: a plan is one")
		return nil
	}
	r.yaml.anchors = map[string]ast.Node{}
	ast.Walk(anchorVisitor(r.yaml.anchors), bodies[0])
	return bodies[0]
}

// unfit says why raw isn't given to the parser, and where that is; "" if it is. It
// counts more brackets than there are where they are part of words; no plan has many
// of those.
func unfit(raw []byte) (at place, why string) {
	deep := fmt.Sprintf("nested deeper than %d", maxNesting)
	var keys [maxNesting + 2]int // lines of the blocks that are open, by their column
	line, depth, start, leading := 1, 0, 0, true
	for i, c := range raw {
		column := i - start + 1
		if leading && c != ' ' && c != '\n' && c != '\r' && c != '#' && depth == 0 {
			if column > maxNesting {
				return place{line, column}, deep
			}
			clear(keys[column+1:])
			if c != '-' { // an element of a list, where another block begins
				keys[column]++
			}
			if keys[column] > maxKeys {
				return place{line, column}, fmt.Sprintf("more than %d keys", maxKeys)
			}
		}
		switch c {
		case '\n':
			line, start, leading = line+1, i+1, true
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case ' ', '-', '?', ':': // what a block's level begins with
			continue
		}
		leading = false
		if depth > maxNesting {
			return place{line, column}, deep
		}
	}
	return place{}, ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ReplaceAll(s, "\t", `\t`)
}

type anchorVisitor map[string]ast.Node

// Visit implements [ast.Visitor].
func (v anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		v[a.Name.GetToken().Value] = a.Value
	}
	return v
}

func placeOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key // its own is the first colon
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return place{t.Position.Line, t.Position.Column}
	}
	return place{}
}

// plain gives what n stands for, without anchors, aliases and tags; nil, with a
// fault, if that is nothing that a plan has.
func (r *planReader) plain(n ast.Node) ast.Node {
	aliases := 0
	for {
		if r.yaml.looked++; r.yaml.looked > maxNodes {
			if r.yaml.looked == maxNodes+1 {
				r.fault(placeOf(n), "more than %d parts", maxNodes)
			}
			return nil
		}
		switch m := n.(type) {
		case *ast.AnchorNode:
			n = m.Value
		case *ast.AliasNode:
			name := m.Value.GetToken().Value
			to, ok := r.yaml.anchors[name]
			if aliases++; !ok || aliases > maxAliases {
				r.fault(placeOf(n), "nothing has the anchor %q", name)
				return nil
			}
			n = to
		case *ast.TagNode:
			if m.Start.Value != "!!str" && m.Start.Value != "!!map" && m.Start.Value != "!!seq" {
				r.fault(placeOf(n), "%s is not understood", m.Start.Value)
				return nil
			}
			n = m.Value
		default:
			return n
		}
	}
}

// A pair is a key of a map with its value.
type pair struct {
	key   scalar
	value ast.Node
}

// pairs gives the pairs of the map n; what names it in faults.
func (r *planReader) pairs(n ast.Node, what string) []pair {
	n = r.plain(n)
	if n == nil {
		return nil
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		r.fault(placeOf(n), "%s: it has to be a map", what)
		return nil
	}
	var all []pair
	for i := m.MapRange(); i.Next(); {
		if i.Key().IsMergeKey() {
			r.fault(placeOf(i.Key()), "%s: << is not understood: write it out", what)
			continue
		}
		if key, ok := r.scalar(i.Key(), what); ok {
			all = append(all, pair{key, i.Value()})
		}
	}
	return all
}

// list gives the elements of the list n.
func (r *planReader) list(n ast.Node, what string) []ast.Node {
	n = r.plain(n)
	if n == nil {
		return nil
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.fault(placeOf(n), "%s: it has to be a list", what)
		return nil
	}
	return s.Values
}

// scalar gives the word n as it was written: a tag 1.0 is no number.
func (r *planReader) scalar(n ast.Node, what string) (scalar, bool) {
	n = r.plain(n)
	if n == nil {
		return scalar{}, false
	}
	s := scalar{at: placeOf(n)}
	switch m := n.(type) {
	case *ast.StringNode:
		s.text = m.Value
	case *ast.LiteralNode:
		s.text = m.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		s.text = n.GetToken().Value
	case *ast.NullNode:
		r.fault(s.at, "%s: it has to be one word; %q means nothing unless it is in quotes", what, n.GetToken().Value)
		return s, false
	default:
		r.fault(s.at, "%s: it has to be one word", what)
		return s, false
	}
	if s.text == "" {
		r.fault(s.at, "%s: it is empty", what)
		return s, false
	}
	return s, true
}

// isSet reports whether n is anything but nothing: null, false, 0, "", [] and {}
// are nothing.
func (r *planReader) isSet(n ast.Node) bool {
	switch m := r.plain(n).(type) {
	case nil, *ast.NullNode:
		return false
	case *ast.BoolNode:
		return m.Value
	case *ast.IntegerNode:
		return m.GetToken().Value != "0"
	case *ast.StringNode:
		return m.Value != ""
	case *ast.SequenceNode:
		return len(m.Values) > 0
	case *ast.MappingNode:
		return len(m.Values) > 0
	}
	return true
}

// shown gives what n holds, on one line, for messages.
func shown(n ast.Node) string {
	text := strings.Join(strings.Fields(n.String()), " ")
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return fmt.Sprintf("%q", text)
}
