package filter

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Kind is one filter that `-f` can name.
type Kind struct {
	Name    string   // "normalize-timestamps"
	Aliases []string // further names for the same
	Help    string   // one line: what it does
	// Options are the names of its options and what each does. Any other name
	// is an error.
	Options map[string]string
	// Required are the options without which it can't be made.
	Required []string
	// New makes the filter. Its error matches [oci.ErrUsage].
	New func(o Options, env Env) (Filter, error)
}

// A Filter is what one `-f` adds to a [Chain]. Any part may be nil.
type Filter struct {
	Entry    oci.EntryFilter
	Image    oci.ImageFilter
	Observer Observer
	// Changes says that Entry may change entries, drop some or add some. Else it
	// only looks.
	Changes bool
}

// Env is what filters are made with. It comes from the command line.
type Env struct {
	// SourceDateEpoch is the value of SOURCE_DATE_EPOCH; "" if it isn't set.
	SourceDateEpoch string
	// Found is told what the search filter found in an image, once for each
	// image, one call at a time. nil discards it.
	Found func(Findings) error

	// changed says that a filter further up the chain changes entries.
	changed bool
}

// find gives the kind of name, whatever its case and with _ for -.
func find(name string) (Kind, error) {
	folded := fold(name)
	var names []string
	for _, k := range Table {
		if k.Name == folded || slices.Contains(k.Aliases, folded) {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, oci.Usage(fmt.Sprintf("Unknown filter: %s; there are %s", name, strings.Join(names, ", ")))
}

// fold gives the one spelling of a filter's or an option's name.
func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "_", "-")
}

// make checks o against what k has and makes the filter.
func (k Kind) make(o Options, env Env) (Filter, error) {
	for _, name := range o.names() {
		if _, ok := k.Options[name]; !ok {
			has := "has none"
			if len(k.Options) > 0 {
				has = "has " + strings.Join(slices.Sorted(maps.Keys(k.Options)), ", ")
			}
			return Filter{}, oci.Usage(fmt.Sprintf(`%s has no option %q; it %s (a comma that is part of a value is written \,)`, k.Name, name, has))
		}
	}
	for _, name := range k.Required {
		if strings.Join(o.All(name), "") == "" {
			return Filter{}, oci.Usage(fmt.Sprintf("%s filter requires %s option", k.Name, name))
		}
	}
	return k.New(o, env)
}
