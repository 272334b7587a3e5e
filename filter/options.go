package filter

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Options are the options of one filter as they were given, in order.
type Options []option

type option struct {
	name   string
	pieces []string // of the value, between its commas
}

// trim drops what trailing commas made.
func (o *option) trim() {
	for len(o.pieces) > 1 && strings.TrimSpace(o.pieces[len(o.pieces)-1]) == "" {
		o.pieces = o.pieces[:len(o.pieces)-1]
	}
}

// text gives the value with its commas.
func (o option) text() string { return strings.TrimSpace(strings.Join(o.pieces, ",")) }

func (o Options) names() []string {
	names := make([]string, len(o))
	for i := range o {
		names[i] = o[i].name
	}
	return names
}

// All gives the values of each time that name was given.
func (o Options) All(name string) []string {
	var all []string
	for _, x := range o {
		if x.name == name {
			all = append(all, x.text())
		}
	}
	return all
}

// List gives the values of name, where a comma within a value divides it too,
// but not one between braces. Empty values are left out.
func (o Options) List(name string) []string {
	var all []string
	for _, x := range o {
		if x.name != name {
			continue
		}
		open := ""
		for _, p := range x.pieces {
			open += p
			if openBrace(open) {
				open += ","
				continue
			}
			if open = strings.TrimSpace(open); open != "" {
				all = append(all, open)
			}
			open = ""
		}
		if open = strings.TrimSpace(strings.TrimSuffix(open, ",")); open != "" {
			all = append(all, open)
		}
	}
	return all
}

// openBrace reports whether a { of s isn't closed.
func openBrace(s string) bool {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			depth = max(0, depth-1)
		}
	}
	return depth > 0
}

// One gives the value of name, and whether it was given. To give it twice is an
// error, since one of the two would be lost.
func (o Options) One(name string) (value string, ok bool, err error) {
	all := o.All(name)
	switch len(all) {
	case 0:
		return "", false, nil
	case 1:
		return all[0], true, nil
	}
	return "", false, oci.Usage(fmt.Sprintf("filter option %s is given %d times; it takes one value", name, len(all)))
}

// Bool gives the value of name; without one, false.
func (o Options) Bool(name string) (bool, error) {
	v, ok, err := o.One(name)
	if !ok || err != nil {
		return false, err
	}
	switch strings.ToLower(v) {
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, oci.Usage(fmt.Sprintf("filter option %s is true or false, not %q", name, v))
}

// Number gives the value of name, which must be from 0 to most.
func (o Options) Number(name string, most int64) (n int64, ok bool, err error) {
	v, ok, err := o.One(name)
	if !ok || err != nil {
		return 0, false, err
	}
	n, err = number(v, most)
	if err != nil {
		return 0, false, oci.Usage(fmt.Sprintf("filter option %s: %s", name, err))
	}
	return n, true, nil
}

func number(v string, most int64) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is no whole number from 0 to %d", v, most)
	}
	return n, nil
}

// An id builds the ID of a filter: name, version of what it does, and what it was
// told, in one spelling. Two filters that could give different output must not
// have the same.
type id struct{ b strings.Builder }

func newID(name string, version int) *id {
	i := new(id)
	fmt.Fprintf(&i.b, "%s/%d:", name, version)
	return i
}

var idEscaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`)

// add appends key=value for each of values.
func (i *id) add(key string, values ...string) *id {
	for _, v := range values {
		if !strings.HasSuffix(i.b.String(), ":") {
			i.b.WriteByte(',')
		}
		i.b.WriteString(key + "=" + idEscaper.Replace(v))
	}
	return i
}

func (i *id) String() string { return i.b.String() }
